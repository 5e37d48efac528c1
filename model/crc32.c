#include "model/crc32.h"

#include <pthread.h>
#include <string.h>

enum { SLICES = 8 };
static uint32_t tables[SLICES][256]; /* [s][b]: byte b, followed by s zero bytes */

static void fill_tables(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        tables[0][b] = crc;
    }
    for (uint32_t b = 0; b < 256; b++)
        for (int s = 1; s < SLICES; s++) tables[s][b] = tables[s - 1][b] >> 8 ^ tables[0][tables[s - 1][b] & 0xff];
}

static uint32_t load32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Eight bytes at a time (Kounavis and Berry 2005). */
uint32_t crc32_add(uint32_t crc, const void *data, size_t size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const uint8_t *at = data;
    pthread_once(&once, fill_tables);
    crc = ~crc;
    for (; size >= 8; size -= 8, at += 8) {
        uint32_t low = load32(at) ^ crc, high = load32(at + 4);
        crc = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^ tables[4][low >> 24] ^
              tables[3][high & 0xff] ^ tables[2][high >> 8 & 0xff] ^ tables[1][high >> 16 & 0xff] ^
              tables[0][high >> 24];
    }
    for (; size > 0; size--, at++) crc = crc >> 8 ^ tables[0][(crc ^ *at) & 0xff];
    return ~crc;
}
