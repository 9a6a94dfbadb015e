/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Walks the Python stack of the current task, in the kernel, without stopping it. */
#pragma once
#include "common.bpf.h"

/* To be filled in: map `py_procs` (tgid -> struct py_process: version's offsets, TLS key)
 * and the walk. Returns the number of frames written to stack->frames, sets STACK_GIL_* and
 * STACK_TRUNCATED in *flags; negative when the stack could not be walked, 0 when the thread
 * has no Python. */
static __always_inline int walk_python(struct stack *stack, struct task_struct *task, u32 tgid, u32 *flags)
{
	return 0;
}

static __always_inline void python_wait_stack(u64 start, u64 end, u32 tgid)
{
}
