/**
 * A Next.js route that gives its page a token: app/progress-token/route.js. It needs `jose`, and the gateway's
 * GATEWAY_JWT_SECRET in the environment.
 *
 * In the page: `getToken: () => fetch("/progress-token", { method: "POST" }).then((answer) => answer.text())`.
 */

import { SignJWT } from "jose";

// Stands for your sessions and your database.
const SESSIONS = { "session-of-ann": "ann" };
const PROJECTS = { ann: ["film_7", "team_3.*"] };

function userOf(request) {
  const cookies = request.headers.get("cookie") ?? "";
  const session = /(?:^|; )session=([^;]+)/.exec(cookies)?.[1];
  return session && Object.hasOwn(SESSIONS, session) ? SESSIONS[session] : undefined;
}

export async function POST(request) {
  const user = userOf(request);
  if (user === undefined) return new Response("Sign in first.", { status: 401 });
  const [secret] = process.env.GATEWAY_JWT_SECRET.split(",");
  const token = await new SignJWT({ projects: PROJECTS[user] })
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(user)
    .setIssuedAt()
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(secret));
  return new Response(token, { headers: { "Cache-Control": "no-store", "Content-Type": "text/plain" } });
}
