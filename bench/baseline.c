/* The physical limit, with which the other servers are compared: read Redis, one send() per delivery, nothing else.
 *
 *   baseline <port> <redis port>          both on 127.0.0.1; one thread, one epoll loop
 *
 * It speaks the part of the protocol that the benchmark uses: `connected` after the upgrade, `subscribed` once Redis
 * has confirmed the channel, then every event as one text frame. It has no checks, limits, keep-alive pings or replay.
 * What a real server spends beyond this program is the price of its features and of its language.
 *
 * Invariants: clients[fd] owns a Client. If its `project` is set, the Client is in that project's list, at `slot`, and
 * in no other. A Client is never freed during a broadcast: only the epoll loop notices broken sockets and frees them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "accept_key.h"

enum { MAX_FDS = 65536, BUCKETS = 16384, READ_BYTES = 1 << 16, ID_BYTES = 128 };

typedef struct Project Project;

typedef struct {
    int fd, open;                        /* open: the upgrade is complete */
    Project *project;                    /* each client of the benchmark subscribes to one project */
    size_t slot;                         /* its index in project->clients */
    char *in, *out;                      /* an incomplete request or frame; bytes that the socket did not take yet */
    size_t in_length, out_length, out_size;
} Client;

struct Project {
    char id[ID_BYTES + 1];
    int confirmed;                       /* Redis has answered SUBSCRIBE: `subscribed` may be sent */
    Client **clients;
    size_t count, size;
    Project *next;                       /* the next one in its hash bucket */
};

static Client *clients[MAX_FDS];
static Project *buckets[BUCKETS];
static int poller, listener, redis_fd;

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* ---- sending ---- */

static void watch(Client *client, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = client->fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event);
}

static void keep_unsent(Client *client, const char *bytes, size_t length) {
    if (client->out_length + length > client->out_size) {
        client->out_size = 2 * (client->out_length + length);
        if (!(client->out = realloc(client->out, client->out_size))) die("realloc");
    }
    memcpy(client->out + client->out_length, bytes, length);
    client->out_length += length;
}

static void deliver(Client *client, const char *bytes, size_t length) {
    if (client->out_length) {
        keep_unsent(client, bytes, length);
        return;
    }
    ssize_t sent = send(client->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == (ssize_t)length) return;
    if (sent < 0 && errno != EAGAIN) return; /* broken: the epoll loop will close it */
    if (sent < 0) sent = 0;
    keep_unsent(client, bytes + sent, length - (size_t)sent);
    watch(client, EPOLLIN | EPOLLOUT);
}

static void send_unsent(Client *client) {
    ssize_t sent = send(client->fd, client->out, client->out_length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) return;
    client->out_length -= (size_t)sent;
    memmove(client->out, client->out + sent, client->out_length);
    if (!client->out_length) watch(client, EPOLLIN);
}

/* RFC 6455, 5.2: FIN and opcode, the length in 7, 16 or 64 bits; a server does not mask. */
static size_t frame(char *out, int opcode, const char *payload, size_t length) {
    size_t head = 2;
    out[0] = (char)(0x80 | opcode);
    if (length < 126) {
        out[1] = (char)length;
    } else if (length < 65536) {
        out[1] = 126, out[2] = (char)(length >> 8), out[3] = (char)length, head = 4;
    } else {
        out[1] = 127, head = 10;
        for (int i = 0; i < 8; i++) out[2 + i] = (char)((uint64_t)length >> (56 - 8 * i));
    }
    memcpy(out + head, payload, length);
    return head + length;
}

static void deliver_text(Client *client, const char *text) {
    char bytes[512];
    deliver(client, bytes, frame(bytes, 1, text, strlen(text)));
}

/* ---- projects ---- */

static Project *find_project(const char *id, size_t length, int create) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)id[i]) * 16777619u;
    Project **bucket = &buckets[hash % BUCKETS];
    for (Project *project = *bucket; project; project = project->next)
        if (!strncmp(project->id, id, length) && !project->id[length]) return project;
    if (!create) return NULL;
    Project *project = calloc(1, sizeof *project);
    if (!project) die("calloc");
    memcpy(project->id, id, length);
    project->next = *bucket;
    return *bucket = project;
}

static void send_redis(const char *bytes, size_t length) {
    while (length) {
        ssize_t sent = send(redis_fd, bytes, length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) die("redis: send");
        if (sent < 0) {
            struct pollfd writable = {.fd = redis_fd, .events = POLLOUT};
            poll(&writable, 1, 1000);
            continue;
        }
        bytes += sent, length -= (size_t)sent;
    }
}

static void answer_subscribed(Client *client) {
    char text[ID_BYTES + 96];
    snprintf(text, sizeof text, "{\"type\":\"subscribed\",\"projectId\":\"%s\",\"seq\":0,\"recovered\":true}",
             client->project->id);
    deliver_text(client, text);
}

static void subscribe(Client *client, const char *id, size_t length) {
    if (client->project || !length || length > ID_BYTES) return;
    Project *project = client->project = find_project(id, length, 1);
    if (project->count == project->size) {
        project->size = project->size ? 2 * project->size : 1;
        if (!(project->clients = realloc(project->clients, project->size * sizeof *project->clients))) die("realloc");
    }
    client->slot = project->count;
    project->clients[project->count++] = client;
    if (project->confirmed) {
        answer_subscribed(client);
    } else if (project->count == 1) {
        char command[ID_BYTES + 64];
        int size = snprintf(command, sizeof command, "*2\r\n$9\r\nSUBSCRIBE\r\n$%zu\r\nproject:%s\r\n", length + 8,
                            project->id);
        send_redis(command, (size_t)size);
    }
}

static void on_confirmed(const char *id, size_t length) {
    Project *project = find_project(id, length, 0);
    if (!project || project->confirmed) return;
    project->confirmed = 1;
    for (size_t i = 0; i < project->count; i++) answer_subscribed(project->clients[i]);
}

static void on_event(const char *id, size_t id_length, const char *payload, size_t length) {
    static char *bytes;
    static size_t size;
    Project *project = find_project(id, id_length, 0);
    if (!project) return;
    if (length + 10 > size && !(bytes = realloc(bytes, size = length + 10))) die("realloc");
    size_t total = frame(bytes, 1, payload, length);
    for (size_t i = 0; i < project->count; i++) deliver(project->clients[i], bytes, total);
}

/* ---- Redis (RESP2): every push is an array of three, `message channel payload` or `subscribe channel :count` ---- */

/* Parse the element at *at into *start and *length. Returns 0 if it is incomplete. */
static int element(char *data, size_t end, size_t *at, char **start, size_t *length) {
    char *line_end = memmem(data + *at, end - *at, "\r\n", 2);
    if (!line_end) return 0;
    char *line = data + *at;
    size_t after = (size_t)(line_end - data) + 2;
    *start = line + 1, *length = (size_t)(line_end - line) - 1;
    if (*line == '$') {
        *length = strtoul(line + 1, NULL, 10);
        if (after + *length + 2 > end) return 0;
        *start = data + after;
        after += *length + 2;
    }
    *at = after;
    return 1;
}

static void on_redis(void) {
    static char *data;
    static size_t length, size;
    if (size - length < READ_BYTES && !(data = realloc(data, size = 2 * size + 2 * READ_BYTES))) die("realloc");
    ssize_t got = recv(redis_fd, data + length, size - length, MSG_DONTWAIT);
    if (got == 0) exit(0);
    if (got < 0) return;
    length += (size_t)got;
    size_t done = 0, at = 0;
    char *head, *kind, *channel, *payload;
    size_t n, kind_length, channel_length, payload_length;
    while (element(data, length, &at, &head, &n) && element(data, length, &at, &kind, &kind_length) &&
           element(data, length, &at, &channel, &channel_length) &&
           element(data, length, &at, &payload, &payload_length)) {
        if (channel_length > 8 && kind_length == 7) on_event(channel + 8, channel_length - 8, payload, payload_length);
        else if (channel_length > 8 && kind_length == 9) on_confirmed(channel + 8, channel_length - 8);
        done = at;
    }
    length -= done;
    memmove(data, data + done, length);
}

/* ---- clients ---- */

static void close_client(Client *client) {
    Project *project = client->project;
    if (project) {
        Client *last = project->clients[--project->count];
        project->clients[last->slot = client->slot] = last;
    }
    clients[client->fd] = NULL;
    close(client->fd);
    free(client->in);
    free(client->out);
    free(client);
}

static void accept_clients(void) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        Client *client = calloc(1, sizeof *client);
        if (!client || fd >= MAX_FDS) die("accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        client->fd = fd;
        clients[fd] = client;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    }
}

/* Returns the bytes used; 0 if the request is incomplete; -1 if the connection must be closed. */
static ssize_t on_request(Client *client, char *data, size_t length) {
    char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end) return length > 8192 ? -1 : 0;
    *end = 0;
    char *key = strcasestr(data, "\r\nsec-websocket-key:");
    if (!key) {
        static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        deliver(client, ok, sizeof ok - 1);
        return -1;
    }
    key += 20;
    key += strspn(key, " ");
    char accept[29], head[160];
    size_t key_length = strcspn(key, " \r");
    if (key_length != 24) return -1;
    accept_key(key, key_length, accept);
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n\r\n",
                        accept);
    deliver(client, head, (size_t)size);
    client->open = 1;
    char hello[64];
    snprintf(hello, sizeof hello, "{\"type\":\"connected\",\"clientId\":\"%d\"}", client->fd);
    deliver_text(client, hello);
    return end + 4 - data;
}

static ssize_t on_frame(Client *client, char *data, size_t length) {
    if (length < 6) return 0;
    size_t size = data[1] & 0x7f, head = 6;
    int opcode = data[0] & 0x0f;
    if (size == 127 || opcode == 8) return -1; /* longer than any message of these clients, or a close frame */
    if (size == 126) {
        if (length < 8) return 0;
        size = (size_t)(unsigned char)data[2] << 8 | (unsigned char)data[3], head = 8;
    }
    if (length < head + size) return 0;
    char *payload = data + head;
    for (size_t i = 0; i < size; i++) payload[i] ^= data[head - 4 + (i & 3)];
    if (opcode == 9) {
        char pong[136];
        if (size < 126) deliver(client, pong, frame(pong, 10, payload, size));
    } else if (opcode == 1) {
        static const char name[] = "\"projectId\":\"";
        char *id = memmem(payload, size, name, sizeof name - 1);
        char *quote = id ? memchr(id + sizeof name - 1, '"', size - (size_t)(id + sizeof name - 1 - payload)) : NULL;
        if (quote) subscribe(client, id + sizeof name - 1, (size_t)(quote - id) - (sizeof name - 1));
    }
    return (ssize_t)(head + size);
}

static void on_client(Client *client) {
    static char buffer[READ_BYTES];
    size_t length = client->in_length;
    memcpy(buffer, client->in, length * (client->in != NULL));
    ssize_t got = recv(client->fd, buffer + length, sizeof buffer - length, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        close_client(client);
        return;
    }
    length += (size_t)got;
    size_t done = 0;
    ssize_t used = 1;
    while (done < length && used > 0) {
        used = client->open ? on_frame(client, buffer + done, length - done)
                            : on_request(client, buffer + done, length - done);
        if (used > 0) done += (size_t)used;
    }
    if (used < 0) {
        close_client(client);
        return;
    }
    free(client->in);
    client->in = NULL;
    client->in_length = length - done;
    if (!client->in_length) return;
    if (!(client->in = malloc(client->in_length))) die("malloc");
    memcpy(client->in, buffer + done, client->in_length);
}

static struct sockaddr_in loopback(const char *port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void add(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fputs("usage: baseline <port> <redis port>\n", stderr);
        return 2;
    }
    int one = 1;
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in redis = loopback(argv[2]), own = loopback(argv[1]);
    redis_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(redis_fd, (struct sockaddr *)&redis, sizeof redis)) die("redis");
    setsockopt(redis_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&own, sizeof own) || listen(listener, 2048)) die("listen");
    poller = epoll_create1(EPOLL_CLOEXEC);
    add(redis_fd);
    add(listener);
    struct epoll_event events[512];
    for (;;) {
        int count = epoll_wait(poller, events, 512, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) accept_clients();
            else if (fd == redis_fd) on_redis();
            else {
                if (events[i].events & EPOLLOUT && clients[fd]) send_unsent(clients[fd]);
                if (events[i].events & ~(uint32_t)EPOLLOUT && clients[fd]) on_client(clients[fd]);
            }
        }
    }
}
