/* Fibers: stacks that take turns on one system thread. AddressSanitizer is told of every switch. */
#ifndef TESTS_EMU_FIBER_H
#define TESTS_EMU_FIBER_H

#include <stddef.h>

namespace emu
{

/* Either a stack of its own, or (stack NULL) the system thread's. */
struct Fiber {
    void *position; /* stack pointer while it does not run */
    char *stack;    /* lowest address that may be used */
    size_t size;
    void *fake_stack; /* AddressSanitizer's, while it does not run */
};

/* A stack with an inaccessible page below. Never given back: they are pooled by block.cc. */
Fiber fiber_create();
/* Makes the next switch to it call entry(), which must not return; the fiber may have been left anywhere. */
void fiber_reset(Fiber *fiber, void (*entry)());
/* `ended`: `from` will be reset before it runs again. */
void fiber_switch(Fiber *from, Fiber *to, bool ended);
/* First thing in entry(). */
void fiber_started(Fiber *self, Fiber *from);

} // namespace emu

#endif
