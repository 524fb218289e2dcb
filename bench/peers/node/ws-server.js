// A WebSocket server with the package `ws`, as its users write one: a set of sockets for each project, and one loop.
// It has no limits, checks, replay or back-pressure.
import { createServer } from "node:http";
import { createClient } from "redis";
import { WebSocket, WebSocketServer } from "ws";

const [port, redisPort] = process.argv.slice(2);
const redis = await createClient({ url: `redis://127.0.0.1:${redisPort}` }).connect();
const projects = new Map(); // of each project: its sockets, and when Redis has confirmed the subscription

async function subscribe(socket, projectId) {
  if (!projects.has(projectId)) {
    const sockets = new Set();
    const relay = (event) => {
      for (const each of sockets) if (each.readyState === WebSocket.OPEN) each.send(event);
    };
    projects.set(projectId, { sockets, confirmed: redis.subscribe(`project:${projectId}`, relay) });
  }
  const { sockets, confirmed } = projects.get(projectId);
  await confirmed;
  sockets.add(socket);
  socket.send(JSON.stringify({ type: "subscribed", projectId }));
}

const http = createServer((_, response) => response.end("ok"));
const server = new WebSocketServer({ server: http, path: "/ws" });
server.on("connection", (socket) => {
  socket.send(JSON.stringify({ type: "connected" }));
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (message.type === "subscribe") subscribe(socket, message.projectId);
  });
  socket.on("close", () => {
    for (const { sockets } of projects.values()) sockets.delete(socket);
  });
});
http.listen(port, "127.0.0.1");
