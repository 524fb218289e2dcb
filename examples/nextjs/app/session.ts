/** Stands for your sessions and your database: who asks, and what they may see. */

export const PROJECT = "demo";

export interface User {
  id: string;
  projects: string[];
}

export async function currentUser(): Promise<User | null> {
  return { id: "ann", projects: [PROJECT] };
}
