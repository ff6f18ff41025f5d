"""Several processes on one port: a parent, and the workers that it keeps alive.

Who does what:

    the parent   listens; hands each connection to a worker; runs the embedded recognizer; decides who may connect, and
                 counts streams; adds up the metrics; restarts workers; passes signals on. It reads nothing of a client
    a worker     is the whole service, but for that. It keeps to a core of its own

Why the parent accepts, and not the workers. With SO_REUSEPORT the kernel deals connections out by a hash of their
addresses: of 20 on two workers, one of them gets 13 or more in a quarter of all cases, and what it deals to a worker
that has stopped, or has just died, is lost. Workers that accept from one shared socket take turns by chance: whoever is
less busy is asleep, and the last one that slept is woken first. The parent knows how many connections each worker has,
and which one does not answer, and gives the next one to the worker that has the fewest.

Each worker has one channel to its parent (`channel`). These messages go over it:

    worker   {"loaded": true}                it waits for its name
    parent   {"be": NAME, "core": CORE}      serve
    parent   {"take": true}                  + connection: it is yours. With "head": so its request began, which has
                                             been read already
    worker   {"taken": true}                 it is mine: until then the parent keeps a copy, and gives it to another
                                             worker if this one dies
    worker   {"over": true}                  one of my connections has ended
    worker   {"hand_on": WORKER, "head": ..} + connection: it resumes a stream of that worker
    worker   {"ask": ID, "what": ...}        admit, slot, make_secret, find_secret, readiness, metrics: answered by
    parent   {"answer": ID, ...}
    worker   {"release": LEASE}, {"free": true}   a connection's lease, a stream's place
    worker   {"take_places": LEASE}          its stream has come from elsewhere: it counts here from now on
    parent   {"report": ID}                  answered by
    worker   {"reported": ID, "families": ..} its metrics. It also reports by itself, a moment after a session has ended
    parent   {"recognizer": URL}             where the embedded recognizer listens; null while it is restarted
    worker   {"ready": true}, {"failed": TEXT, "is_wrong": BOOL}   it has started, or cannot

A client that resumes a stream may reach any worker. The stream's key begins with the name of the worker that has it, so
the worker that was reached knows by the request's head, before it has answered anything, and hands the connection on:
the socket itself, with the head. Nothing is relayed afterwards, and nothing can be lost: a client must not send more
before the response to its handshake.

Loading takes a worker most of a second, and several on a busy machine. So one more than is needed is loaded at all
times: it waits for its name, keeps to no core, and takes the place of the next worker that dies.

How it ends. If the parent is told to end, it tells the workers, and ends after the last one. If the parent is killed,
the channels end, and each worker ends as at SIGTERM; nothing listens any more, so a new service can begin at once. If a
worker dies, its streams are cut, and nothing else: its counters are the parent's, its leases are released.
"""
