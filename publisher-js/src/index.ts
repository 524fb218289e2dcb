/**
 * Tell everybody who watches a project how its jobs go.
 *
 *     const publisher = createPublisher({ redis: new Redis() });
 *     await publisher.broadcastToProject("project_1", { type: "progress", jobId: "job_7", jobType: "audio", progress: 40 });
 *
 *     await publisher.trackJob("project_1", "job_7", "audio", async (job) => {
 *       job.progress(40, "voice 2 of 5");
 *     });
 */

export { EventError, PublishError } from "./errors.js";
export { createPublisher, currentJob } from "./publisher.js";
export type * from "./types.js";
