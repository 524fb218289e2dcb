import { makeVideo } from "./actions";
import { Jobs } from "./jobs";
import { PROJECT } from "./session";

export const dynamic = "force-dynamic"; // the settings below are read for each request, and not when it is built

export default function Page() {
  return (
    <main>
      <form action={makeVideo}>
        <input name="title" aria-label="Title" defaultValue="cats" />
        <button type="submit">Make a video</button>
      </form>
      <Jobs
        projectId={PROJECT}
        url={process.env.GATEWAY_WS_URL ?? "ws://127.0.0.1:3001/ws"}
        asksForToken={process.env.GATEWAY_JWT_SECRET !== undefined}
      />
    </main>
  );
}
