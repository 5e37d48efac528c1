#include "tars.h"

#include <stdio.h>
#include <string.h>

void tar_header(const TarHeader *header, uint8_t out[512])
{
    unsigned sum = 0;
    memset(out, 0, 512);
    memcpy(out, header->name, strnlen(header->name, 100));
    memcpy(out + 100, "0000644", 7);
    memcpy(out + 108, "0000000", 7);
    memcpy(out + 116, "0000000", 7);
    memcpy(out + 136, "00000000000", 11);
    if (header->base256) {
        for (int i = 0; i < 8; i++) out[135 - i] = (uint8_t)((uint64_t)header->size >> (8 * i));
        memset(out + 124, header->size < 0 ? 0xff : 0, 4);
        out[124] = header->size < 0 ? 0xff : 0x80;
    } else {
        snprintf((char *)out + 124, 12, "%011llo", (unsigned long long)header->size);
    }
    memset(out + 148, ' ', 8);
    out[156] = (uint8_t)header->type;
    if (header->magic == MAGIC_USTAR) memcpy(out + 257, "ustar\00000", 8);
    if (header->magic == MAGIC_GNU) memcpy(out + 257, "ustar  ", 8);
    if (header->prefix) memcpy(out + 345, header->prefix, strnlen(header->prefix, 155));
    if (header->map_more) out[482] = 1;
    for (int i = 0; i < 512; i++) sum += out[i];
    snprintf((char *)out + 148, 8, "%06o", sum);
    out[155] = ' ';
}

void tar_put(StrBuf *tar, const TarHeader *header, const void *data, size_t size)
{
    static const char zeros[512];
    uint8_t block[512];
    tar_header(header, block);
    assert_ok(strbuf_append(tar, block, 512));
    if (size > 0) assert_ok(strbuf_append(tar, data, size));
    if (tar->size % 512) assert_ok(strbuf_append(tar, zeros, 512 - tar->size % 512));
}

void tar_put_text(StrBuf *tar, const TarHeader *header, const char *text)
{
    TarHeader h = *header;
    h.size = (int64_t)strlen(text);
    tar_put(tar, &h, text, strlen(text));
}

void pax_record(StrBuf *out, const char *key, const char *value)
{
    size_t body = strlen(key) + strlen(value) + 3, length = body, before;
    do {
        char digits[24];
        before = length;
        length = body + (size_t)snprintf(digits, sizeof digits, "%zu", length);
    } while (length != before);
    assert_ok(strbuf_printf(out, "%zu %s=%s\n", length, key, value));
}

static Status read_memory(void *context, void *out, int64_t size, int64_t offset)
{
    TarMemory *memory = context;
    memory->reads++;
    memory->bytes_read += size;
    if (size < 0 || offset < 0 || offset > memory->size || size > memory->size - offset)
        return status_fail(ERR_INTERNAL, __FILE__, __LINE__, "read outside of the archive");
    if (memory->data) {
        memcpy(out, memory->data + offset, (size_t)size);
        return STATUS_OK;
    }
    for (int64_t i = 0; i < size;) {
        uint8_t block[512];
        int64_t in = (offset + i) % 512, n = 512 - in < size - i ? 512 - in : size - i;
        memory->make((offset + i) / 512, block);
        memcpy((char *)out + i, block + in, (size_t)n);
        i += n;
    }
    return STATUS_OK;
}

TarWalkSource tar_memory(TarMemory *memory)
{
    return (TarWalkSource){read_memory, memory, "memory.tar", memory->size, 4096};
}
