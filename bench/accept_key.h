/* Sec-WebSocket-Accept (RFC 6455, 4.2.2): base64(SHA-1(key + GUID)), written out to avoid a library. */
#ifndef ACCEPT_KEY_H
#define ACCEPT_KEY_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint32_t rotate(uint32_t x, int bits) { return x << bits | x >> (32 - bits); }

static void sha1_block(uint32_t h[5], const unsigned char *block) {
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) f = (b & c) | (~b & d), k = 0x5A827999;
        else if (i < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
        else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
        else f = b ^ c ^ d, k = 0xCA62C1D6;
        uint32_t next = rotate(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = next;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* RFC 3174, for at most 119 bytes, that is two blocks: the key (24) and the GUID (36) are 60 bytes. */
static void sha1(const char *text, size_t length, unsigned char digest[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char blocks[128] = {0};
    size_t total = length < 56 ? 64 : 128;
    memcpy(blocks, text, length);
    blocks[length] = 0x80;
    blocks[total - 2] = (unsigned char)(length * 8 >> 8);
    blocks[total - 1] = (unsigned char)(length * 8);
    for (size_t at = 0; at < total; at += 64) sha1_block(h, blocks + at);
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void accept_key(const char *key, size_t length, char out[29]) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[128];
    unsigned char digest[21] = {0};
    int size = snprintf(text, sizeof text, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", (int)length, key);
    sha1(text, (size_t)size, digest);
    for (int i = 0, o = 0; i < 21; i += 3, o += 4) {
        uint32_t triple = (uint32_t)digest[i] << 16 | digest[i + 1] << 8 | digest[i + 2];
        for (int j = 0; j < 4; j++) out[o + j] = alphabet[triple >> (18 - 6 * j) & 63];
    }
    out[27] = '='; /* 20 bytes become 27 characters and one of padding */
    out[28] = 0;
}

#endif
