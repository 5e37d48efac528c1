/* Where a library's __shared__ variables are. They are function-local statics (mangled names begin with _ZZ) that
 * cuda_emu.h over-aligns; their addresses and sizes are read from the symbol table of the file that the kernel was
 * loaded from. Thread-local ones are known by their offset in the library's thread-local block. */
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "emu.h"

namespace emu
{
namespace
{

#ifdef EMU_ASAN
const unsigned wanted_type = STT_OBJECT;
#else
const unsigned wanted_type = STT_TLS;
#endif

struct Variable {
    size_t offset, size; /* from where the library lies, or from its thread-local block */
};
struct Library {
    std::vector<Variable> variables;
};

/* The loaded file that a function lies in. */
struct Place {
    uintptr_t function;
    std::string path;
    uintptr_t base;
    char *thread_local_block;
};

int find_place(struct dl_phdr_info *info, size_t, void *data)
{
    Place *place = static_cast<Place *>(data);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &part = info->dlpi_phdr[i];
        const uintptr_t begin = info->dlpi_addr + part.p_vaddr;
        if (part.p_type != PT_LOAD || place->function < begin || place->function >= begin + part.p_memsz) continue;
        place->path = info->dlpi_name[0] ? info->dlpi_name : "/proc/self/exe";
        place->base = info->dlpi_addr;
        place->thread_local_block = static_cast<char *>(info->dlpi_tls_data);
        return 1;
    }
    return 0;
}

void take_symbols(const char *file, const ElfW(Shdr) * sections, const ElfW(Shdr) & table, Library *out)
{
    const ElfW(Sym) *symbols = reinterpret_cast<const ElfW(Sym) *>(file + table.sh_offset);
    const char *names = file + sections[table.sh_link].sh_offset;
    for (size_t i = 0; i < table.sh_size / sizeof *symbols; i++) {
        const ElfW(Sym) &s = symbols[i];
        if (ELF64_ST_TYPE(s.st_info) != wanted_type || s.st_shndx == SHN_UNDEF || s.st_shndx >= SHN_LORESERVE) continue;
        if (strncmp(names + s.st_name, "_ZZ", 3) != 0 || !(sections[s.st_shndx].sh_flags & SHF_WRITE)) continue;
        if (wanted_type == STT_OBJECT && s.st_value % EMU_SHARED_ALIGNMENT != 0) continue;
        out->variables.push_back({s.st_value, s.st_size});
        if (wanted_type == STT_OBJECT && ELF64_ST_BIND(s.st_info) != STB_LOCAL)
            fprintf(stderr, "emulated device: %s has no guards: make the function that it is in static\n",
                    names + s.st_name);
    }
}

Library *read_library(const std::string &path)
{
    std::ifstream stream(path, std::ios::binary);
    const std::string file((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    Library *library = new Library;
    if (file.size() < sizeof(ElfW(Ehdr))) {
        fprintf(stderr, "emulated device: %s cannot be read, shared memory does not start as NaN\n", path.c_str());
        return library;
    }
    const ElfW(Ehdr) *header = reinterpret_cast<const ElfW(Ehdr) *>(file.data());
    const ElfW(Shdr) *sections = reinterpret_cast<const ElfW(Shdr) *>(file.data() + header->e_shoff);
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type == SHT_SYMTAB) take_symbols(file.data(), sections, sections[i], library);
    }
    return library;
}

std::mutex lock;
std::map<std::string, Library *> libraries;

/* What one system thread knows. */
struct Known {
    const void *function;
    char *base;
    const Library *library;
    std::vector<Variable> used; /* by the launch that runs */
};
thread_local Known *known;

void learn(const Launch &launch)
{
    launch.touch();
    Place place{reinterpret_cast<uintptr_t>(launch.function), {}, 0, nullptr};
    dl_iterate_phdr(find_place, &place);
    known->function = launch.function;
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    known->base = wanted_type == STT_TLS ? place.thread_local_block : reinterpret_cast<char *>(place.base);
    const std::lock_guard<std::mutex> guard(lock);
    Library *&library = libraries[place.path];
    if (!library) library = read_library(place.path);
    known->library = library;
}

bool untouched(const Variable &v)
{
    const char *bytes = known->base + v.offset;
    return std::all_of(bytes, bytes + v.size, [](char c) { return c == (char)0xff; });
}

} // namespace

void poison_shared(const Launch &launch, bool all)
{
    if (!known) known = new Known{};
    if (all) {
        if (known->function != launch.function) learn(launch);
        for (const Variable &v : known->library->variables) memset(known->base + v.offset, 0xff, v.size);
        known->used.clear();
        return;
    }
    if (known->used.empty()) {
        for (const Variable &v : known->library->variables) {
            if (!untouched(v)) known->used.push_back(v);
        }
    }
    for (const Variable &v : known->used) memset(known->base + v.offset, 0xff, v.size);
}

} // namespace emu
