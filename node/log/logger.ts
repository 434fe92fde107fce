/**
 * Structured logs on pino: every line has fields and a constant message, every part of a node its own level.
 *
 * Lines are written before the call returns, without a worker thread: what was logged before a crash is there after it.
 */

import { pino } from 'pino';
import { prettyFactory } from 'pino-pretty';
import { RotatingFile } from './rotating-file.ts';

/** How much a component says, from everything to nothing. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** How lines look: one JSON object each, for people, or by whether standard error is a terminal. */
export const LOG_FORMATS = ['auto', 'json', 'pretty'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** What a part of the program needs to log. Fields first, then a message that does not change. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  /** The logger of a component, `parent.component` inside another one, with the level set for it. */
  child(component: string): Logger;
}

/** A logger that owns its file. */
export interface RootLogger extends Logger {
  /** Closes the file; lines that come later go to standard error only. */
  close(): void;
}

/** Settings of a logger, as in section `log` of the configuration. */
export interface LogSettings {
  /** Level of everything that `components` does not name. */
  level: LogLevel;
  /** Levels by component; a component without one has that of the component around it. */
  components: Readonly<Record<string, LogLevel>>;
  format: LogFormat;
}

/** Where a logger writes. */
export interface LogTargets {
  /** Takes the finished lines instead of standard error; `null` for none. A terminal view wants `null`. */
  stream?: { write(line: string): void; readonly isTTY?: boolean } | null;
  /** A file that gets JSON lines besides, made if it is missing. Kept below {@link LOG_FILE_LIMIT_BYTES}, with one older file. */
  file?: string;
  /** Fields of every line, such as the role. */
  fields?: Readonly<Record<string, unknown>>;
}

/** A log file is renamed to `NAME.1` and begun anew at this size: a month of a talkative node, and no full disk. */
export const LOG_FILE_LIMIT_BYTES = 64 * 1024 * 1024;

/** Names of fields that hold key material; never written, at the top of the fields or up to two objects deep. */
const SECRET_FIELDS = [
  ...['mnemonic', 'passphrase', 'password', 'privateKey', 'secret', 'secretKey', 'seed', 'signingKey', 'token'],
];

/** Drops everything. */
export const SILENT_LOGGER: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => SILENT_LOGGER,
};

/** The level of `component` (`a.b.c`): its own, that of the nearest component around it, or the general one. */
export function levelOf(component: string, { level, components }: Pick<LogSettings, 'level' | 'components'>): LogLevel {
  for (let name = component; name !== ''; name = name.slice(0, Math.max(0, name.lastIndexOf('.')))) {
    const own = Object.hasOwn(components, name) ? components[name] : undefined;
    if (own !== undefined) return own;
  }
  return level;
}

/** Standard error, written at once. A reader that went away must not end the program. */
function standardError(): { write(line: string): void; isTTY: boolean } {
  const destination = pino.destination({ fd: 2, sync: true });
  destination.on('error', () => {});
  return { write: (line) => destination.write(line), isTTY: process.stderr.isTTY === true };
}

/**
 * Makes the logger of a process. Lines go to standard error, as text on a terminal and as JSON otherwise (`format`), and
 * to a file if one is named. Throws the error of the operating system if the file cannot be opened.
 */
export function createLogger(settings: LogSettings, { stream, file, fields = {} }: LogTargets = {}): RootLogger {
  const screen = stream === undefined ? standardError() : stream;
  const pretty = settings.format === 'pretty' || (settings.format === 'auto' && screen?.isTTY === true);
  const render = pretty
    ? prettyFactory({
        colorize: screen?.isTTY === true,
        translateTime: 'SYS:HH:MM:ss.l',
        ignore: 'pid,component',
        messageFormat: (line, key) => [line.component, line[key]].filter((part) => part !== undefined).join(': '),
        singleLine: true,
      })
    : (line: string) => line;
  const log = file === undefined ? undefined : new RotatingFile(file, LOG_FILE_LIMIT_BYTES);
  const inner = pino(
    {
      base: { pid: process.pid, ...fields },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.errWithCause, cause: pino.stdSerializers.errWithCause },
      redact: {
        paths: SECRET_FIELDS.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]),
        censor: '[redacted]',
      },
    },
    {
      write(line: string) {
        log?.write(line);
        screen?.write(render(line));
      },
    },
  );

  const loggerOf = (component: string): Logger => {
    const bound = inner.child(component === '' ? {} : { component }, { level: levelOf(component, settings) });
    return {
      debug: bound.debug.bind(bound),
      info: bound.info.bind(bound),
      warn: bound.warn.bind(bound),
      error: bound.error.bind(bound),
      child: (name) => loggerOf(component === '' ? name : `${component}.${name}`),
    };
  };
  return { ...loggerOf(''), close: () => log?.close() };
}
