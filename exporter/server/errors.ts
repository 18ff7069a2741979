// Why the server cannot listen, in one sentence that says what to do. Thrown by server.ts, printed by the CLI.

/** The address cannot be listened on. `message` is one sentence for people. */
export class ListenError extends Error {
  /** Code of the system error, such as EADDRINUSE. */
  readonly code: string;

  constructor(host: string, port: number, cause: NodeJS.ErrnoException) {
    const code = cause.code ?? 'UNKNOWN';
    super(sentence(host, port, code, cause.message), { cause });
    this.name = 'ListenError';
    this.code = code;
  }
}

function sentence(host: string, port: number, code: string, message: string): string {
  const where = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  const choose = 'choose another address with --listen HOST:PORT';
  switch (code) {
    case 'EADDRINUSE':
      return `Cannot listen on ${where}: another program holds this port; stop it (\`ss -ltnp 'sport = :${port}'\` names it) or ${choose}.`;
    case 'EACCES':
      return `Cannot listen on ${where}: ports below 1024 need root or CAP_NET_BIND_SERVICE; ${choose}.`;
    case 'EADDRNOTAVAIL':
      return `Cannot listen on ${where}: this host does not have that address; ${choose}.`;
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `Cannot listen on ${where}: the name ${host} cannot be resolved; ${choose}.`;
    default:
      return `Cannot listen on ${where}: ${message}; ${choose}.`;
  }
}
