/* Running an op of a case on a backend with memory of its own: the tensors of a CaseRun are host mirrors. */
#ifndef TESTS_ENGINE_OP_CASE_DEVICE_H
#define TESTS_ENGINE_OP_CASE_DEVICE_H

#include "op_cases.h"

/* Like the second half of case_run_op, for an op that has been prepared. Operands are uploaded into blocks of their
 * exact size between guards, and what the op may have written is downloaded after it. Where the op's packed weights are
 * only bf16 copies (Prepared.packs_halves), it also runs with KernelCall.half, and both must give the same bits. */
Status case_run_op_device(CaseRun *run, const Op *op, const Kernel *kernel, const Prepared *prepared,
                          uint32_t accumulate, bool *guards_hold);

#endif
