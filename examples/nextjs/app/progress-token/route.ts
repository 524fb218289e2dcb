/** Gives the page a token for the gateway: HS256, by the secret that both have in GATEWAY_JWT_SECRET. */

import { createHmac } from "node:crypto";
import { currentUser } from "../session";

const LIFE_SECONDS = 3_600;

export async function POST(): Promise<Response> {
  const user = await currentUser();
  if (user === null) return new Response("Sign in first.", { status: 401 });
  const [secret = ""] = (process.env.GATEWAY_JWT_SECRET ?? "").split(",");
  const now = Math.floor(Date.now() / 1_000);
  const claims = { sub: user.id, projects: user.projects, iat: now, exp: now + LIFE_SECONDS };
  const headers = { "Cache-Control": "no-store", "Content-Type": "text/plain" };
  return new Response(signed(claims, secret), { headers });
}

function signed(claims: object, secret: string): string {
  const text = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded(claims)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
