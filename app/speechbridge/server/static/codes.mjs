// What a client does about each close code. Pure. The same lists as in speechbridge/protocol/resume.py; a test
// compares.

export const ABNORMAL = 1006; // no close frame came
export const UNKNOWN_STREAM = 4002; // in answer to a resume key: the service does not know the stream
export const SHUTTING_DOWN = 4010; // another server, or this one after its restart, goes on
export const TOO_OFTEN = 4031; // too many handshakes a minute

/** The connection was lost, the stream may live on: no close frame, or one from a proxy or a server that restarts. */
export const RECONNECT = [ABNORMAL, 1001, 1005, 1011, 1012, 1013, 1014, SHUTTING_DOWN];

/** Of these, those by which the service asks to resume the stream, which is done however often it asks. */
export const COME_BACK = [SHUTTING_DOWN, 1013];

/** The stream is over, but a new one may succeed later. */
export const NEW_STREAM = [4013, 4029, 4030, TOO_OFTEN];
