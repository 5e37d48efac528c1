#include "zip_maker.h"

#include <stdint.h>
#include <string.h>

static void put(StrBuf *out, uint64_t value, int bytes)
{
    uint8_t at[16];
    for (int i = 0; i < bytes; i++) at[i] = i < 8 ? (uint8_t)(value >> (8 * i)) : 0;
    (void)strbuf_append(out, at, (size_t)bytes);
}

static void put_text(StrBuf *out, const char *text)
{
    (void)strbuf_append(out, text, strlen(text));
}

void zip_add(ZipMaker *zip, const char *name, const void *data, size_t size)
{
    const char *local = zip->other_name ? zip->other_name : name;
    const uint64_t place = (uint64_t)((long)zip->file.size + zip->place_shift);
    const uint64_t told = (uint64_t)((long)size + zip->size_shift);
    put(&zip->file, 0x04034b50, 4);
    put(&zip->file, 20, 2);
    put(&zip->file, (uint64_t)zip->flags, 2);
    put(&zip->file, (uint64_t)zip->method, 2);
    put(&zip->file, 0, 8); /* time, date, crc */
    put(&zip->file, zip->zip64 ? UINT32_MAX : size, 4);
    put(&zip->file, zip->zip64 ? UINT32_MAX : size, 4);
    put(&zip->file, strlen(local), 2);
    put(&zip->file, 0, 2);
    put_text(&zip->file, local);
    if (size) (void)strbuf_append(&zip->file, data, size);

    put(&zip->directory, 0x02014b50, 4);
    put(&zip->directory, 20, 2);
    put(&zip->directory, 20, 2);
    put(&zip->directory, (uint64_t)zip->flags, 2);
    put(&zip->directory, (uint64_t)zip->method, 2);
    put(&zip->directory, 0, 8);
    put(&zip->directory, zip->zip64 ? UINT32_MAX : told, 4);
    put(&zip->directory, zip->zip64 ? UINT32_MAX : told, 4);
    put(&zip->directory, strlen(name), 2);
    put(&zip->directory, zip->zip64 ? 28 : 0, 2);
    put(&zip->directory, 0, 10); /* comment, disk, attributes */
    put(&zip->directory, zip->zip64 ? UINT32_MAX : place, 4);
    put_text(&zip->directory, name);
    if (zip->zip64) {
        put(&zip->directory, 1, 2);
        put(&zip->directory, 24, 2);
        put(&zip->directory, told, 8);
        put(&zip->directory, told, 8);
        put(&zip->directory, place, 8);
    }
    zip->entries++;
    zip->method = zip->flags = 0;
    zip->place_shift = zip->size_shift = 0;
    zip->other_name = NULL;
    zip->zip64 = false;
}

void zip_finish(ZipMaker *zip, bool zip64, int shift)
{
    const uint64_t entries = (uint64_t)zip->entries + (uint64_t)shift;
    const uint64_t offset = zip->file.size, size = zip->directory.size;
    if (size) (void)strbuf_append(&zip->file, zip->directory.data, size);
    if (zip64) {
        const uint64_t record = zip->file.size;
        put(&zip->file, 0x06064b50, 4);
        put(&zip->file, 44, 8);
        put(&zip->file, 45 | 45 << 16, 4);
        put(&zip->file, 0, 8); /* disks */
        put(&zip->file, entries, 8);
        put(&zip->file, entries, 8);
        put(&zip->file, size, 8);
        put(&zip->file, offset, 8);
        put(&zip->file, 0x07064b50, 4);
        put(&zip->file, 0, 4);
        put(&zip->file, record, 8);
        put(&zip->file, 1, 4);
    }
    put(&zip->file, 0x06054b50, 4);
    put(&zip->file, 0, 4);
    put(&zip->file, (uint64_t)zip->entries, 2);
    put(&zip->file, (uint64_t)zip->entries, 2);
    put(&zip->file, size, 4);
    put(&zip->file, offset, 4);
    put(&zip->file, 0, 2);
}

void zip_free(ZipMaker *zip)
{
    strbuf_free(&zip->file);
    strbuf_free(&zip->directory);
    *zip = (ZipMaker){0};
}
