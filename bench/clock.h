/* The clock of the clients: from the moment an event was published to the moment its bytes were read from the socket.
 *
 * An event that is timed carries SENT and the moment of its sending: CLOCK_MONOTONIC in nanoseconds, 19 digits. The
 * latencies go into buckets, 64 to each power of two, so that a value is known to 0.8 % at worst.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SENT "#sent#"                  /* load.py has the same word */

enum { SENT_DIGITS = 19, FINE_BITS = 6, FINE = 1 << FINE_BITS, LATENCY_BUCKETS = 40 * FINE };

static struct {
    uint32_t counts[LATENCY_BUCKETS];
    uint64_t count;
    int64_t largest_ns;
} latencies;
static int64_t read_at_ns;             /* when the bytes that are being taken were read */

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Exact below 2 * FINE; above, the highest bit chooses a group and the FINE_BITS bits below it a bucket of the group. */
static int latency_bucket(int64_t ns) {
    if (ns < FINE) return ns < 0 ? 0 : (int)ns;
    int shift = 63 - __builtin_clzll((unsigned long long)ns) - FINE_BITS;
    int bucket = shift * FINE + (int)(ns >> shift);
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* The middle of a bucket. */
static int64_t latency_of(int bucket) {
    if (bucket < 2 * FINE) return bucket;
    int shift = bucket / FINE - 1;
    int64_t lowest = (int64_t)(bucket - shift * FINE) << shift;
    return lowest + ((int64_t)1 << shift) / 2;
}

static void take_time(const char *payload, size_t length) {
    const char *mark = memmem(payload, length, SENT, sizeof SENT - 1);
    if (!mark || (size_t)(mark - payload) + sizeof SENT - 1 + SENT_DIGITS > length) return;
    int64_t sent_ns = 0;
    for (const char *digit = mark + sizeof SENT - 1, *end = digit + SENT_DIGITS; digit < end; digit++)
        sent_ns = 10 * sent_ns + (*digit - '0');
    int64_t ns = read_at_ns - sent_ns;
    latencies.counts[latency_bucket(ns)]++;
    latencies.count++;
    if (ns > latencies.largest_ns) latencies.largest_ns = ns;
}

static void forget_latencies(void) {
    memset(&latencies, 0, sizeof latencies);
}

/* Prints the line that `latency` is answered with, and begins anew. */
static void print_latencies(void) {
    printf("latency %lld", (long long)latencies.largest_ns);
    for (int bucket = 0; bucket < LATENCY_BUCKETS; bucket++)
        if (latencies.counts[bucket]) printf(" %lld:%u", (long long)latency_of(bucket), latencies.counts[bucket]);
    putchar('\n');
    fflush(stdout);
    forget_latencies();
}
