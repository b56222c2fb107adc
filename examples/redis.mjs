// A Redis client in thirty lines, so that the example beside it runs on plain Node.js. It opens one connection without
// TLS or a password and sends one command after another. A real program uses the npm package `redis`.

import net from "node:net";

/** Connect to a `redis://` URL. `send` resolves to the reply of a command, and rejects if Redis reports an error. */
export function connect(url) {
  const { hostname, port } = new URL(url);
  const socket = net.connect(Number(port || 6379), hostname);
  const waiting = [];
  let received = Buffer.alloc(0);
  socket.on("data", (bytes) => {
    received = Buffer.concat([received, bytes]);
    for (let reply; (reply = read(received, 0)); received = received.subarray(reply.end)) {
      const { resolve, reject } = waiting.shift();
      reply.value instanceof Error ? reject(reply.value) : resolve(reply.value);
    }
  });
  socket.on("error", (error) => waiting.splice(0).forEach(({ reject }) => reject(error)));
  const send = (...words) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
      socket.write(`*${words.length}\r\n${parts.join("")}`);
    });
  return { send, close: () => socket.end() };
}

/** Read the reply that starts at `start`: its value and its end, or undefined while bytes of it are missing. */
function read(bytes, start) {
  const newline = bytes.indexOf("\r\n", start);
  if (newline < 0) return undefined;
  const kind = String.fromCharCode(bytes[start]);
  const line = bytes.toString("utf8", start + 1, newline);
  let end = newline + 2;
  if ("$*".includes(kind) && Number(line) < 0) return { value: null, end };
  if (kind === "$") {
    const text = { value: bytes.toString("utf8", end, end + Number(line)), end: end + Number(line) + 2 };
    return text.end <= bytes.length ? text : undefined;
  }
  if (kind !== "*") return { value: kind === "-" ? new Error(line) : line, end };
  const items = [];
  for (let count = Number(line); count > 0; count--) {
    const item = read(bytes, end);
    if (!item) return undefined;
    items.push(item.value);
    end = item.end;
  }
  return { value: items, end };
}
