// What a client does about each close code. Pure. The same lists as in speechbridge/protocol/resume.py; a test
// compares them.

export const ABNORMAL = 1006; // the connection ended without a close frame
export const UNKNOWN_STREAM = 4002; // in answer to a resume key: the service does not know the stream
export const SHUTTING_DOWN = 4010; // another server, or this one after its restart, continues the stream
export const TOO_OFTEN = 4031; // too many handshakes per minute

/** The connection was lost, the stream may live on: no close frame, or one from a proxy or a server that restarts. */
export const RECONNECT = [ABNORMAL, 1001, 1005, 1011, 1012, 1013, 1014, SHUTTING_DOWN];

/** Of these, the codes with which the service asks the client to resume. The client does so any number of times. */
export const COME_BACK = [SHUTTING_DOWN, 1013];

/** The stream is over, but a new one may succeed later. */
export const NEW_STREAM = [4013, 4029, 4030, TOO_OFTEN];
