// The types of client.mjs. Beside it, call this file client.d.mts.

/** Any failure. `status` is 0 where no answer came; `detail` is for the person at the screen. */
export class Problem extends Error {
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  /** For programs; never changes. Ours are `unreachable` and `signed_out`. */
  readonly code?: string;
  readonly errors: Fault[];
  /** Seconds. */
  readonly retryAfter?: number;
}

/** What is wrong with one member of a body (`pointer`) or, with an empty pointer, `parameter`. */
export interface Fault {
  pointer: string;
  parameter?: string;
  detail: string;
  code: string;
}

export interface Storage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export interface Request {
  method: string;
  url: string;
  headers: Record<string, string>;
  body?: string;
}

export interface Options {
  /** The service's origin, as in `https://api.example.org`. Default: the page's own. */
  base?: string;
  /** Where the tokens are kept. Default: `localStorage`, or memory where there is none. */
  storage?: Storage;
  /** Sent as `Accept-Language`. Default: what the browser sends. */
  language?: string;
  /**
   * Called with each request before it is sent, and again with the same object when it is answered.
   * It has the token, and passwords: show neither.
   */
  onRequest?: (request: Request, response?: { status: number }) => void;
}

export interface User {
  id: string;
  email: string;
}

/** An event of a run, and the number to resume after. */
export interface RunEvent {
  id: number;
  data: { type: string; [member: string]: any };
}

export interface RequestOptions {
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

/**
 * The service, for one user at a time. Dispatches `signedin` and `signedout`, also when another tab
 * signed in or out. What fails throws a Problem; what the caller aborts, the signal's reason.
 */
export class Client extends EventTarget {
  constructor(options?: Options);
  language: string;
  readonly user: User | null;
  signUp(details: {
    username: string;
    email: string;
    password: string;
    redirect_to?: string;
  }): Promise<void>;
  resend(email: string): Promise<void>;
  verify(email: string, token: string): Promise<User>;
  signIn(email: string, password: string): Promise<User>;
  /** Signs out here at once; throws if the service could not be told. */
  signOut(): Promise<void>;
  /**
   * The JSON of an answer, or null. `path` is what follows `/api/v1`. A fresh token is sent along,
   * and a new pair in an answer is kept. A GET, what has an `Idempotency-Key`, and what is refused
   * with `Retry-After`, is asked for again, at most three times.
   */
  request(method: string, path: string, body?: unknown, options?: RequestOptions): Promise<any>;
  /**
   * The events of the run that a message begins, until its last one; leaving the loop does not stop
   * the run. A `sessionId` that is new begins a chat. `body` has further members of the request.
   */
  chat(
    message: string,
    options?: RequestOptions & { sessionId?: string; body?: object },
  ): AsyncGenerator<RunEvent, void, undefined>;
  /** The events of a run after a number, until its last one. */
  follow(
    sessionId: string,
    runId: string,
    options?: { after?: number; signal?: AbortSignal },
  ): AsyncGenerator<RunEvent, void, undefined>;
  stop(sessionId: string, runId: string): Promise<void>;
}
