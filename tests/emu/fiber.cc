#include "fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "threads.h" /* EMU_ASAN */

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "fibers are switched in x86-64 assembly"
#endif

/* Saves what a call must preserve on the stack, keeps the stack pointer in *from and goes on at `to`. */
extern "C" void emu_switch_stacks(void **from, void *to);
asm(R"(
.text
.globl emu_switch_stacks
.hidden emu_switch_stacks
.type emu_switch_stacks, @function
emu_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch_stacks, .-emu_switch_stacks
)");

namespace emu
{

#ifdef EMU_ASAN
static const size_t stack_bytes = 256 * 1024;
#else
static const size_t stack_bytes = 64 * 1024;
#endif
static const size_t page = 4096;

Fiber fiber_create()
{
    char *memory = static_cast<char *>(
        mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
        fprintf(stderr, "emulated device: no memory for a thread's stack\n");
        abort();
    }
    return Fiber{nullptr, memory + page, stack_bytes, nullptr};
}

void fiber_reset(Fiber *fiber, void (*entry)())
{
    const int registers = 6;
    void **top = reinterpret_cast<void **>(fiber->stack + fiber->size);
#ifdef EMU_ASAN
    /* Of the frames that were left without returning. */
    __asan_unpoison_memory_region(fiber->stack + fiber->size - page, page);
#endif
    *--top = nullptr; /* where entry() would return to */
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < registers; i++) *--top = nullptr;
    fiber->position = top;
    fiber->fake_stack = nullptr;
}

void fiber_switch(Fiber *from, Fiber *to, bool ended)
{
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(ended ? nullptr : &from->fake_stack, to->stack, to->size);
#endif
    emu_switch_stacks(&from->position, to->position);
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void fiber_started(Fiber *self, Fiber *from)
{
#ifdef EMU_ASAN
    /* The system thread's stack is learnt the first time that it is left. */
    const void *stack = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(self->fake_stack, &stack, &size);
    if (!from->stack) {
        from->stack = static_cast<char *>(const_cast<void *>(stack));
        from->size = size;
    }
#endif
    (void)self;
    (void)from;
}

} // namespace emu
