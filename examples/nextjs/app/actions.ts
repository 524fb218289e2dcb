"use server";

import { videos } from "../lib/queue";
import { currentUser, PROJECT } from "./session";

/** Starts a job. Its progress comes to the page by itself. */
export async function makeVideo(form: FormData): Promise<void> {
  const user = await currentUser();
  if (!user?.projects.includes(PROJECT)) throw new Error("Sign in first.");
  const title = String(form.get("title") || "untitled").slice(0, 80);
  await videos().add("video", { projectId: PROJECT, title }, { removeOnComplete: 100, removeOnFail: 100 });
}
