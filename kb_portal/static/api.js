// Asking the server: JSON both ways, the CSRF token with every post, and errors a person can read.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }

  // Nothing the customer did wrong: the same request may succeed later.
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

async function ask(method, path, body, options = {}) {
  const headers = { Accept: options.accept ?? "application/json" };
  if (method !== "GET") {
    headers["X-CSRF-Token"] = document.querySelector('meta[name="csrf"]')?.content ?? "";
    headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: method === "GET" ? undefined : JSON.stringify(body ?? {}),
      credentials: "same-origin",
      cache: "no-store",
      keepalive: options.keepalive ?? false,
      signal: AbortSignal.timeout?.(15000),
    });
  } catch {
    throw new ApiError("We cannot reach the server. Please check your connection.", 0);
  }
  if (!answer.ok) throw new ApiError(await reason(answer), answer.status);
  return answer;
}

async function reason(answer) {
  if (answer.status === 401) return "You have been logged out. Please log in again.";
  if (answer.headers.get("content-type")?.includes("json")) {
    const told = await answer.json().catch(() => ({}));
    const text = told.error ?? told.reason;
    if (typeof text === "string") return text;
  }
  return answer.status >= 500 ? "Something broke on our side. Please try again." : "That did not work.";
}

async function json(answer) {
  return answer.status === 204 ? null : answer.json();
}

export const getHtml = async (path) => (await ask("GET", path, null, { accept: "text/html" })).text();
export const get = async (path) => json(await ask("GET", path));
export const post = async (path, body, options) => json(await ask("POST", path, body, options));
