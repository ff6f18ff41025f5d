"""Several processes on one port: a parent, and the workers that it keeps running.

Who does what:

    the parent   listens; hands each connection to a worker; runs the embedded recognizer; admits clients, and counts
                 streams; adds up the metrics; restarts workers; forwards signals. It reads no data of clients
    a worker     does everything else. It is pinned to a core of its own

Why the parent accepts connections, and not the workers. With SO_REUSEPORT the kernel distributes connections by a hash
of their addresses: of 20 connections on two workers, one worker gets 13 or more in a quarter of all cases, and
connections given to a worker that has stopped, or has just died, are lost. If workers accept from one shared socket,
the distribution depends on chance: an idle worker sleeps, and the one that fell asleep last is woken first. The parent
knows how many connections each worker has, and which worker does not answer. It gives the next connection to the worker
with the fewest.

Each worker has one channel to its parent (`channel`), for these messages:

    worker   {"loaded": true}                it waits for its name
    parent   {"be": NAME, "core": CORE}      begin to serve
    parent   {"take": true}                  + connection: serve it. "head" holds the beginning of its request, if that
                                             was read already
    worker   {"taken": true}                 the worker has it; until then the parent keeps a copy, and gives it to
                                             another worker if this one dies
    worker   {"over": true}                  a connection of this worker has ended
    worker   {"hand_on": WORKER, "head": ..} + connection: it resumes a stream of that worker
    worker   {"ask": ID, "what": ...}        admit, slot, make_secret, find_secret, readiness, metrics: answered by
    parent   {"answer": ID, ...}
    worker   {"release": LEASE}, {"free": true}   gives back a connection's lease, a stream's place
    worker   {"take_places": LEASE}          the lease's stream came from another process, and counts here from now on
    parent   {"report": ID}                  answered by
    worker   {"reported": ID, "families": ..} its metrics. It also reports them by itself, soon after a session ended
    parent   {"recognizer": URL}             the embedded recognizer's address; null while it is restarted
    worker   {"ready": true}, {"failed": TEXT, "is_wrong": BOOL}   it has started, or cannot start

A client that resumes a stream may reach any worker. The stream's key begins with the name of the worker that owns it.
So the reached worker can tell from the request's head, before it has answered, and hands the connection on: the socket
itself, with the head. Nothing is relayed afterwards, and nothing can be lost, because a client must not send more
before the response to its handshake.

Loading a worker takes most of a second, and several seconds on a busy machine. So a spare process is loaded at all
times: it waits for its name, is not pinned, and replaces the next worker that dies.

How it ends. At a signal the parent ends the workers, and itself after the last one. If the parent is killed, the
channels are closed, and each worker ends as after SIGTERM; nothing listens any more, so a new service can start at
once. If a worker dies, only its streams are cut: the parent has its counters, and releases its leases.
"""
