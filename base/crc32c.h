/* CRC-32C (Castagnoli, polynomial 0x1EDC6F41, reflected), as RFC 3720 B.4 has it. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *data, size_t size);

#endif
