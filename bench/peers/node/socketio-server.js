// A server with Socket.IO, as its users write one: a room for each project, and events from Redis emitted to it.
import { createServer } from "node:http";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, redisPort] = process.argv.slice(2);
const redis = await createClient({ url: `redis://127.0.0.1:${redisPort}` }).connect();
const projects = new Map(); // when Redis has confirmed the subscription of a project

const http = createServer((_, response) => response.end("ok"));
const io = new Server(http);
io.on("connection", (socket) => {
  socket.on("subscribe", async (projectId) => {
    if (!projects.has(projectId)) {
      const relay = (event) => io.to(projectId).emit("event", JSON.parse(event));
      projects.set(projectId, redis.subscribe(`project:${projectId}`, relay));
    }
    await projects.get(projectId);
    socket.join(projectId);
    socket.emit("subscribed", projectId);
  });
});
http.listen(port, "127.0.0.1");
