/* The clients: thousands of WebSockets in one cheap process, so that the machine's time goes to the server.
 *
 *   client <port> [dialect] [browser]      on 127.0.0.1; one thread, one epoll loop
 *
 * The dialect (dialects.h) is the protocol of the server, by default the gateway's. `browser`: with the headers of one.
 *
 * It reads commands from stdin and answers on stdout, one line each:
 *
 *   open <count> <projects> [<first> <since> <at once>]
 *                              connect <count> more clients; client i subscribes to project bench-<first + i % projects>,
 *                              from the cursor <since> on (0: from now on), with <at once> handshakes at a time
 *                              -> subscribed <count> | failed <reason>
 *   count <finals>             reset the counters; each client must now receive <finals> events marked FINAL
 *                              -> counting
 *   wait <milliseconds>        wait until every client has its finals, or the time is over
 *                              -> delivered <all clients have their finals: 0 or 1> <events> <fewest events of a client>
 *                                 <most events of a client> <bytes> <connections lost> <errors>
 *   latency                    the latencies of timed events since the last `count` or `latency`; see clock.h
 *                              -> latency <largest, in ns> <ns>:<events> <ns>:<events> ...
 *
 * It ends at the end of stdin, so it never outlives the benchmark.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "dialects.h"

#define FINAL "#last#"                 /* marks the last event of each job */
#define KEY "dGhlIHNhbXBsZSBub25jZQ==" /* the example of RFC 6455: the right answer is ACCEPT */
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum { MAX_CLIENTS = 30000, READ_BYTES = 1 << 18, LINE_BYTES = 256 };

typedef enum { CONNECTING, UPGRADING, SUBSCRIBING, SUBSCRIBED, LOST } State;

typedef struct {
    int fd;
    State state;
    int project;
    int step;                          /* of its dialect: what it waits for */
    uint32_t events, finals;
    char *in;                          /* an incomplete frame */
    size_t in_length;
} Client;

static Client clients[MAX_CLIENTS];
static int poller, server_port, client_count, to_open, open_projects, opening, opened_now;
static int open_first, open_at_once;
static unsigned long long open_since;  /* 0: no cursor is sent */
static uint32_t finals_expected;
static const char *browser_headers = "";
static const Dialect *dialect = dialects;
static int incomplete, lost, errors;   /* clients without all finals; lost connections; `error` messages */
static uint64_t bytes_received;
static int64_t wait_until_ms;          /* 0: no `wait` is pending */
static char failure[200];

static int64_t now_ms(void) {
    return now_ns() / 1000000;
}

static void answer(const char *line) {
    puts(line);
    fflush(stdout);
}

static void fail(const char *what, const char *detail, size_t length) {
    if (failure[0]) return;
    snprintf(failure, sizeof failure, "%s: %.*s", what, (int)(length < 120 ? length : 120), detail);
    for (char *c = failure; *c; c++)
        if (*c == '\n' || *c == '\r') *c = ' ';
}

static void lose(Client *client, const char *why) {
    if (client->state == LOST) return;
    if (client->state != SUBSCRIBED) fail("a connection was lost while opening", why, strlen(why));
    client->state = LOST;
    lost++;
    close(client->fd);
    free(client->in);
    client->in = NULL;
    client->in_length = 0;
}

/* ---- opening ---- */

static void send_all(Client *client, const char *bytes, size_t length) {
    /* Handshakes and pongs always fit into the buffer of an idle socket. */
    if (send(client->fd, bytes, length, MSG_NOSIGNAL) != (ssize_t)length) lose(client, strerror(errno));
}

/* RFC 6455, 5.3: a client masks its frames. */
static void send_frame(Client *client, int opcode, const char *payload, size_t length) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    char out[8 + 4 + 125];
    out[0] = (char)(0x80 | opcode);
    out[1] = (char)(0x80 | length);
    memcpy(out + 2, mask, 4);
    for (size_t i = 0; i < length; i++) out[6 + i] = (char)(payload[i] ^ mask[i & 3]);
    send_all(client, out, 6 + length);
}

static void open_one(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || client_count == MAX_CLIENTS) {
        fail("socket", strerror(errno), 100);
        to_open = 0;
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server_port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    Client *client = &clients[client_count++];
    *client = (Client){.fd = fd, .state = CONNECTING, .project = open_first + opened_now++ % open_projects};
    to_open--;
    opening++;
    incomplete += finals_expected > 0;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = client};
    if (connect(fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) lose(client, strerror(errno));
    else if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) lose(client, strerror(errno));
}

/* What Chromium adds to a handshake from a page on localhost. */
#define BROWSER_HEADERS                                                                                             \
    "Pragma: no-cache\r\nCache-Control: no-cache\r\n"                                                               \
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 "          \
    "Safari/537.36\r\nOrigin: http://localhost:3000\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"               \
    "Accept-Language: en-GB,en;q=0.9\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n"                      \
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

/* By default a few handshakes at a time: enough to keep the server busy, too few to overflow its backlog. */
static void open_more(void) {
    while (to_open && opening < open_at_once && !failure[0]) open_one();
}

static void on_connected(Client *client) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        lose(client, strerror(error));
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event);
    char request[1536], path[100];
    snprintf(path, sizeof path, dialect->path, client->project);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                          path, server_port, browser_headers);
    client->state = UPGRADING;
    send_all(client, request, (size_t)length);
}

static int has(const char *data, size_t length, const char *word) {
    return memmem(data, length, word, strlen(word)) != NULL;
}

/* Take the next step of the dialect if this message (NULL: the upgrade) is what it waits for. */
static void take_step(Client *client, const char *payload, size_t length) {
    const Step *step = &dialect->steps[client->step];
    if (step->on ? !payload || !has(payload, length, step->on) : payload != NULL) return;
    client->step++;
    if (step->say) {
        char text[125];
        const char *say = open_since && step->resume ? step->resume : step->say;
        int size = snprintf(text, sizeof text, say, client->project, open_since);
        send_frame(client, 1, text, (size_t)size);
    } else {
        client->state = SUBSCRIBED;
        opening--;
    }
}

/* Returns the bytes used; 0 if the head is incomplete or the connection was given up. */
static size_t on_response(Client *client, char *data, size_t length) {
    char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end + 4 - data);
    if (memcmp(data, "HTTP/1.1 101", 12) || !memmem(data, head, ACCEPT, sizeof ACCEPT - 1)) {
        fail("the upgrade was refused", data, length);
        lose(client, "refused");
        return 0;
    }
    client->state = SUBSCRIBING;
    take_step(client, NULL, 0);
    return head;
}

/* ---- receiving ---- */

static void on_message(Client *client, const char *payload, size_t length) {
    if (has(payload, length, "\"jobId\"")) {
        client->events++;
        take_time(payload, length);
        if (has(payload, length, FINAL) && ++client->finals == finals_expected) incomplete--;
    } else if (dialect->ping && length == strlen(dialect->ping) && !memcmp(payload, dialect->ping, length)) {
        send_frame(client, 1, dialect->pong, strlen(dialect->pong));
    } else if (has(payload, length, "\"error\"")) {
        errors++;
        if (client->state == SUBSCRIBING) fail("the server answered", payload, length);
    } else if (client->state == SUBSCRIBING) {
        take_step(client, payload, length);
    }
}

static void on_text(Client *client, const char *payload, size_t length) {
    const char *end;
    while (dialect->has_lines && (end = memchr(payload, '\n', length))) {
        on_message(client, payload, (size_t)(end - payload));
        length -= (size_t)(end + 1 - payload);
        payload = end + 1;
    }
    if (length) on_message(client, payload, length);
}

/* Returns the bytes used; 0 if the frame is incomplete or the connection has ended. */
static size_t on_frame(Client *client, const char *data, size_t length) {
    const unsigned char *head = (const unsigned char *)data;
    if (length < 2) return 0;
    size_t size = head[1] & 0x7f, at = size == 127 ? 10 : size == 126 ? 4 : 2;
    if (length < at) return 0;
    if (at > 2) {
        size = 0;
        for (size_t i = 2; i < at; i++) size = size << 8 | head[i];
    }
    if (length < at + size) return 0;
    int opcode = head[0] & 0x0f;
    if (opcode == 1) on_text(client, data + at, size);
    else if (opcode == 9 && size < 126) send_frame(client, 10, data + at, size);
    else if (opcode == 8) lose(client, "the server closed the connection");
    return client->state == LOST ? 0 : at + size;
}

static void take(Client *client, char *data, size_t length) {
    size_t done = 0, used;
    while (done < length) {
        used = client->state == UPGRADING ? on_response(client, data + done, length - done)
                                          : on_frame(client, data + done, length - done);
        if (!used) break;
        done += used;
    }
    free(client->in);
    client->in = NULL;
    client->in_length = client->state == LOST ? 0 : length - done;
    if (!client->in_length) return;
    client->in = malloc(client->in_length);
    if (!client->in) exit(1);
    memcpy(client->in, data + done, client->in_length);
}

static void on_readable(Client *client) {
    static char buffer[2 * READ_BYTES];
    ssize_t got;
    do {
        size_t kept = client->in_length;
        if (kept > READ_BYTES) {
            lose(client, "a frame is longer than the buffer");
            return;
        }
        memcpy(buffer, client->in, kept * (client->in != NULL));
        got = recv(client->fd, buffer + kept, READ_BYTES, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN)) lose(client, got ? strerror(errno) : "end of stream");
        if (got <= 0) return;
        read_at_ns = now_ns();
        bytes_received += (uint64_t)got;
        take(client, buffer, kept + (size_t)got);
    } while (got == READ_BYTES && client->state != LOST);
}

/* ---- commands ---- */

static void report_delivered(void) {
    uint64_t total = 0;
    uint32_t fewest = UINT32_MAX, most = 0;
    for (int i = 0; i < client_count; i++) {
        total += clients[i].events;
        if (clients[i].events < fewest) fewest = clients[i].events;
        if (clients[i].events > most) most = clients[i].events;
    }
    char line[LINE_BYTES];
    snprintf(line, sizeof line, "delivered %d %llu %u %u %llu %d %d", incomplete == 0, (unsigned long long)total,
             client_count ? fewest : 0, most, (unsigned long long)bytes_received, lost, errors);
    wait_until_ms = 0;
    answer(line);
}

static void on_command(const char *line) {
    int count, projects;
    open_first = 0, open_since = 0, open_at_once = 32;
    if (sscanf(line, "open %d %d %d %llu %d", &count, &projects, &open_first, &open_since, &open_at_once) >= 2 &&
        count > 0 && projects > 0) {
        to_open = count, open_projects = projects, opened_now = 0, opening = 0;
        open_more();
    } else if (sscanf(line, "count %u", &finals_expected) == 1) {
        for (int i = 0; i < client_count; i++) clients[i].events = clients[i].finals = 0;
        incomplete = client_count, bytes_received = 0;
        forget_latencies();
        answer("counting");
    } else if (sscanf(line, "wait %d", &count) == 1) {
        wait_until_ms = now_ms() + count;
    } else if (!strcmp(line, "latency")) {
        print_latencies();
    } else {
        answer("failed unknown command");
    }
}

/* Returns 0 at the end of stdin. */
static int on_stdin(void) {
    static char line[LINE_BYTES];
    static size_t length;
    ssize_t got = read(STDIN_FILENO, line + length, sizeof line - 1 - length);
    if (got <= 0) return 0;
    line[length += (size_t)got] = 0;
    char *end;
    while ((end = strchr(line, '\n'))) {
        *end = 0;
        on_command(line);
        length -= (size_t)(end + 1 - line);
        memmove(line, end + 1, length + 1);
    }
    return length < sizeof line - 1;
}

static void on_event(const struct epoll_event *event) {
    Client *client = event->data.ptr;
    if (client->state == CONNECTING && event->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) on_connected(client);
    else if (client->state != LOST) on_readable(client);
}

static void after_events(void) {
    static char line[LINE_BYTES];
    if (opened_now && failure[0]) {
        snprintf(line, sizeof line, "failed %s", failure);
        opened_now = to_open = 0;
        answer(line);
    } else if (opened_now && !to_open && !opening) {
        snprintf(line, sizeof line, "subscribed %d", opened_now);
        opened_now = 0;
        answer(line);
    } else if (to_open) {
        open_more();
    }
    if (wait_until_ms && (!incomplete || now_ms() >= wait_until_ms)) report_delivered();
}

int main(int argc, char **argv) {
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "browser")) browser_headers = BROWSER_HEADERS;
        else if (!(dialect = find_dialect(argv[i]))) argc = 0;
    }
    if (argc < 2) {
        fputs("usage: client <port> [dialect] [browser]; the dialects stand in dialects.h\n", stderr);
        return 2;
    }
    server_port = atoi(argv[1]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[512];
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event)) {
        perror("stdin must be a pipe");
        return 1;
    }
    for (;;) {
        int count = epoll_wait(poller, events, 512, wait_until_ms ? 50 : -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) on_event(&events[i]);
            else if (!on_stdin()) return 0;
        }
        after_events();
    }
}
