/* CRC-32 as zip files have it (ISO 3309, reflected polynomial 0xEDB88320). */
#ifndef MODEL_CRC32_H
#define MODEL_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Of bytes that come in pieces: begin with 0, hand back what came out. */
uint32_t crc32_add(uint32_t crc, const void *data, size_t size);

#endif
