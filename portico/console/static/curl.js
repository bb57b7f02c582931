// Curl: a request as a line for a shell.

/** The line. A key is never in it: it says where to put one. */
export function curl(method, url, headers, body) {
  const parts = ["curl", "-sS", ...(method === "GET" ? [] : ["-X", method]), quoted(url)];
  for (const [name, value] of Object.entries(headers)) parts.push("-H", name === "Authorization" ? '"Authorization: Bearer $PORTICO_API_KEY"' : quoted(`${name}: ${value}`));
  if (body !== undefined) parts.push("--data-binary", quoted(body));
  return parts.join(" ");
}

function quoted(text) {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
