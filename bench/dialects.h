/* What the clients say to each kind of server, from the upgrade to a subscription. One row a protocol.
 *
 * In the path and in what is sent, %d is the number of the project. A step waits for a text that contains `on` (NULL:
 * for the upgrade itself) and then sends `say` (NULL: nothing; the client is subscribed), or `resume` in its place if the
 * client has a cursor, which is its %llu (NULL: this bench does not resume there).
 */
#ifndef DIALECTS_H
#define DIALECTS_H

#include <string.h>

typedef struct {
    const char *on, *say, *resume;
} Step;

typedef struct {
    const char *name, *path;
    Step steps[4];
    const char *ping, *pong; /* the server's keep-alive as a text message, and its answer; NULL: WebSocket pings only */
    int has_lines;           /* a frame can carry several messages, one a line */
} Dialect;

static const Dialect dialects[] = {
    {.name = "gateway", .path = "/ws",
     .steps = {{NULL, "{\"type\":\"subscribe\",\"projectId\":\"bench-%d\"}",
                "{\"type\":\"subscribe\",\"projectId\":\"bench-%d\",\"since\":%llu}"},
               {"\"subscribed\"", NULL}}},
    /* As centrifuge-js does, which sends the subscribe together with the connect. */
    {.name = "centrifugo", .path = "/connection/websocket", .ping = "{}", .pong = "{}", .has_lines = 1,
     .steps = {{NULL, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"bench-%d\"}}"},
               {"\"subscribe\":{", NULL}}},
    {.name = "nchan", .path = "/sub/bench-%d", .steps = {{NULL, NULL}}},
    {.name = "socketio", .path = "/socket.io/?EIO=4&transport=websocket", .ping = "2", .pong = "3",
     .steps = {{"0{", "40"}, {"40{", "42[\"subscribe\",\"bench-%d\"]"}, {"\"subscribed\"", NULL}}},
};

/* NULL if there is none of this name. */
static const Dialect *find_dialect(const char *name) {
    for (size_t i = 0; i < sizeof dialects / sizeof *dialects; i++)
        if (!strcmp(dialects[i].name, name)) return &dialects[i];
    return NULL;
}

#endif
