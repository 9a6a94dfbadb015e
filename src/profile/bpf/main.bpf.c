/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Everything but the uprobes, in one object, so that its programs share their maps. */
#include "common.bpf.h"
#include <bpf/bpf_tracing.h>
#include "process.bpf.h"
#include "sched.bpf.h"
#include "python.bpf.h"
#include "syscall.bpf.h"
#include "block.bpf.h"

char LICENSE[] SEC("license") = "GPL";
