/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Probes on functions of the target: PyTorch, CUDA, NCCL, gloo. All are attached through
 * uprobe_multi links for every process that maps the file; `targets` picks ours.
 *
 * C++ functions have no return probe (an exception that unwinds through its trampoline kills
 * the process): their end is a plain probe on an instruction all ways out lead through.
 * Pairs are matched by the stack pointer at the function's entry, which the cookie lets us
 * compute at both ends; frames that an exception skipped lie below it and are dropped. */
#include "common.bpf.h"

#define BPF_MAP_TYPE_TASK_STORAGE 29
#define BPF_LOCAL_STORAGE_GET_F_CREATE 1

#define CALL_DEPTH 8
#define SCOPE_DEPTH 8
#define OP_IDS 8192
#define NODE_IDS 16384
#define NODE_BASE 0x10000  /* KIND_OP ids from here on are backward nodes: `node_defs` has them */
#define ID_RARE 8064       /* operator ids from here on are few and go through `rare` */
#define ID_NODE 8189
#define SCOPE_USER 7       /* at::RecordScope::USER_SCOPE */

/* Cookie of operator-like functions: id | bytes from sp to the return address << 16 | flags. */
#define OP_ID(cookie) ((u32)(cookie) & 0xffff)
#define OP_DELTA(cookie) (((cookie) >> 16) & 0xffffffff)
#define OP_GENERATION(cookie) (((cookie) >> 48) & 0xff)
#define OP_NO_DELTA (1ull << 56)

/* Cookie of C functions: id | bytes from sp to the return address << 16 | flags. */
#define CALL_ID(cookie) ((u32)(cookie) & 0xffff)
#define CALL_DELTA(cookie) (((cookie) >> 16) & 0xff)
#define CALL_NCCL (1ull << 24)
#define CALL_RUNTIME (1ull << 25)
#define CALL_DRIVER (1ull << 26)
#define CALL_OUT(cookie) (((cookie) >> 28) & 7)  /* 1 + argument that points at the result */
#define CALL_TEXT(cookie) (((cookie) >> 31) & 7) /* 1 + argument that points at a name */
#define CALL_CONFIG (1ull << 34)                 /* argument 0 points at a launch configuration */
#define CALL_STACK3 (1ull << 35)                 /* `extra` is the ninth argument */

/* pt_regs as uprobe programs are given it: fixed by x86-64's ABI, so nothing is relocated and
 * the kernel's BTF need not be read a second time. */
struct user_regs {
	u64 r15, r14, r13, r12, bp, bx;
	u64 r11, r10, r9, r8, ax, cx, dx, si, di;
	u64 orig_ax, ip, cs, flags, sp, ss;
};

struct op_frame {
	u64 sp;    /* where the return address lies */
	u64 start;
	u32 id;
	u32 pad;
};

struct call_frame {
	u64 sp;
	u64 start;
	u64 args[6];
	u64 stack[2];
	u64 caller;
	u64 extra;
	u64 cookie;
	char text[64];
};

struct scope {
	u64 object;
	u64 start;
	char text[64];
};

struct thread {
	u32 ops;
	u32 calls;
	u32 scopes;
	u32 collective;    /* id of the c10d collective this thread is enqueueing */
	u64 scope_string;  /* std::string named to record_function_enter_new */
	struct op_frame op[OP_DEPTH];
	struct call_frame call[CALL_DEPTH];
	struct scope scope[SCOPE_DEPTH];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread);
} threads SEC(".maps");

struct op_stat {
	u64 count;
	u64 total; /* ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OP_IDS);
	__type(key, u32);
	__type(value, struct op_stat);
} op_stats SEC(".maps");

/* Backward nodes are named by their class's vtable; an id each keeps the records small. */
struct node_key {
	u64 vtable;
	u32 tgid;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NODE_IDS);
	__type(key, struct node_key);
	__type(value, u32);
} node_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NODE_IDS);
	__type(key, u32);
	__type(value, struct node_key);
} node_defs SEC(".maps");

/* gloo's work objects on their way to the thread that runs them: object -> collective's id */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct node_key);
	__type(value, u32);
} works SEC(".maps");

u32 generation = 0; /* operator probes of another generation are being replaced */
u32 next_node = 0;

/* Waking the reader takes twenty microseconds of the target's time; it looks by itself ten
 * times a second. */
static __always_inline u64 rare_wakeup(void)
{
	return bpf_ringbuf_query(&rare, BPF_RB_AVAIL_DATA) >= (256 << 10) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline bool is_target(void)
{
	return target_of(bpf_get_current_pid_tgid() >> 32) != NULL;
}

static __always_inline struct thread *this_thread(void)
{
	return bpf_task_storage_get(&threads, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

/* ---- operators and other C++ functions ---- */

/* Drops the frames below `sp`: exceptions have left them without passing their exit. */
static __always_inline u32 drop_ops(struct thread *t, u64 sp)
{
	u32 depth = t->ops;
	for (int i = 0; i < OP_DEPTH; i++) {
		if (depth == 0 || depth > OP_DEPTH)
			break;
		if (t->op[(depth - 1) & (OP_DEPTH - 1)].sp >= sp)
			break;
		depth--;
	}
	return depth;
}

static __always_inline void push_op(struct thread *t, u64 sp, u32 id)
{
	/* A function entered at sp has overwritten the return address of any frame there. */
	u32 depth = drop_ops(t, sp + 1);
	if (depth >= OP_DEPTH) {
		t->ops = OP_DEPTH;
		count_lost(LOST_UNPAIRED);
		return;
	}
	struct op_frame *f = &t->op[depth & (OP_DEPTH - 1)];
	f->sp = sp;
	f->id = id;
	t->ops = depth + 1;
	f->start = bpf_ktime_get_ns();
}

static __always_inline void count_op(u32 id, u64 dur)
{
	struct op_stat *stat = bpf_map_lookup_elem(&op_stats, &id);
	if (stat) {
		stat->count += 1;
		stat->total += dur;
	}
}

SEC("uprobe/op_enter")
int op_enter(struct user_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	if (OP_GENERATION(cookie) != generation || !is_target())
		return 0;
	struct thread *t = this_thread();
	if (!t)
		return 0;
	count_hit(HIT_OP, 1);
	push_op(t, ctx->sp + OP_DELTA(cookie), OP_ID(cookie));
	return 0;
}

/* Like op_enter, for the few functions that are never thinned (backward, c10d). */
SEC("uprobe/rare_enter")
int rare_enter(struct user_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	struct thread *t;
	if (!is_target() || !(t = this_thread()))
		return 0;
	count_hit(HIT_TORCH, 1);
	push_op(t, ctx->sp + OP_DELTA(cookie), OP_ID(cookie));
	return 0;
}

/* Finds this function's frame; returns its index or OP_DEPTH, and drops what lies below. */
static __always_inline u32 find_op(struct thread *t, u64 cookie, u64 sp)
{
	bool exact = !(cookie & OP_NO_DELTA);
	u32 depth = drop_ops(t, sp);
	t->ops = depth;
	if (depth == 0 || depth > OP_DEPTH)
		return OP_DEPTH;
	struct op_frame *f = &t->op[(depth - 1) & (OP_DEPTH - 1)];
	u32 id = f->id >= NODE_BASE ? ID_NODE : f->id;
	/* Anything else was entered before the probes were in place. */
	if (id != OP_ID(cookie) || (exact && f->sp != sp))
		return OP_DEPTH;
	t->ops = depth - 1;
	return depth - 1;
}

static __always_inline void leave_op(struct user_regs *ctx, u64 cookie, u32 hit)
{
	u64 now = bpf_ktime_get_ns();
	struct thread *t;
	struct head h;
	if (!is_target() || !(t = this_thread()))
		return;
	count_hit(hit, 1);
	u32 at = find_op(t, cookie, ctx->sp + OP_DELTA(cookie));
	if (at >= OP_DEPTH)
		return;
	struct op_frame *f = &t->op[at & (OP_DEPTH - 1)];
	fill_head(&h, f->start, now, KIND_OP, f->id, at);
	count_op(OP_ID(cookie), h.dur);
	if (OP_ID(cookie) >= ID_RARE && OP_ID(cookie) != ID_NODE)
		emit_rare(&h, sizeof(h), rare_wakeup());
	else
		emit_slice(&h, sizeof(h));
}

SEC("uprobe/op_exit")
int op_exit(struct user_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	if (OP_GENERATION(cookie) == generation)
		leave_op(ctx, cookie, HIT_OP);
	return 0;
}

SEC("uprobe/rare_exit")
int rare_exit(struct user_regs *ctx)
{
	leave_op(ctx, bpf_get_attach_cookie(ctx), HIT_TORCH);
	return 0;
}

/* Engine::evaluate_function(this, graph_task, Node *node, ...) */
SEC("uprobe/node_enter")
int node_enter(struct user_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	struct node_key key = {};
	struct thread *t;
	if (!is_target() || !(t = this_thread()))
		return 0;
	count_hit(HIT_TORCH, 1);
	if (bpf_probe_read_user(&key.vtable, sizeof(key.vtable), (void *)ctx->dx))
		return 0;
	key.tgid = bpf_get_current_pid_tgid() >> 32;
	u32 *known = bpf_map_lookup_elem(&node_ids, &key);
	u32 id;
	if (known) {
		id = *known;
	} else {
		id = __sync_fetch_and_add(&next_node, 1);
		if (id >= NODE_IDS)
			id = NODE_IDS - 1;
		bpf_map_update_elem(&node_defs, &id, &key, BPF_ANY);
		bpf_map_update_elem(&node_ids, &key, &id, BPF_NOEXIST);
	}
	push_op(t, ctx->sp + OP_DELTA(cookie), NODE_BASE + id);
	return 0;
}

/* ---- PyTorch's own profiler scopes ---- */

/* record_function_enter_new(const std::string &name, ...); the result's address is argument 0 */
SEC("uprobe/scope_name")
int scope_name(struct user_regs *ctx)
{
	struct thread *t;
	if (!is_target() || !(t = this_thread()))
		return 0;
	count_hit(HIT_TORCH, 1);
	t->scope_string = ctx->si;
	return 0;
}

/* Copies the std::string at `address` if one is there: pointer, length, then either the
 * characters themselves (up to 15) or the capacity. */
static __always_inline bool read_string(char *text, u64 address)
{
	u64 parts[3];
	if (address < 4096 || bpf_probe_read_user(parts, sizeof(parts), (void *)address))
		return false;
	u64 pointer = parts[0], length = parts[1], capacity = parts[2];
	if (length == 0 || length > 4096)
		return false;
	if (pointer == address + 16) {
		if (length > 15)
			return false;
	} else if (length > capacity || capacity > (1 << 16)) {
		return false;
	}
	if (bpf_probe_read_user_str(text, 64, (void *)pointer) < 2)
		return false;
	/* A name starts with a few printable characters. */
	for (int i = 0; i < 3; i++) {
		char c = text[i];
		if (c == 0 && i > 0)
			break;
		if (c < 0x20 || c > 0x7e)
			return false;
	}
	return true;
}

/* at::RecordFunction::RecordFunction(this, scope), called by the function that was given the
 * scope's name. PyTorch 2 names it through scope_name; older ones call an unexported function
 * that keeps the name's address in a register its callees preserve. */
SEC("uprobe/scope_enter")
int scope_enter(struct user_regs *ctx)
{
	struct thread *t;
	if (!is_target())
		return 0;
	count_hit(HIT_TORCH, 1);
	if ((u8)ctx->si != SCOPE_USER || !(t = this_thread()))
		return 0;
	u32 depth = t->scopes;
	if (depth >= SCOPE_DEPTH) {
		/* Scopes whose end was never seen: start over. */
		count_lost(LOST_UNPAIRED);
		depth = 0;
	}
	struct scope *s = &t->scope[depth & (SCOPE_DEPTH - 1)];
	u64 given = t->scope_string;
	t->scope_string = 0;
	if (!(given && read_string(s->text, given)) && !read_string(s->text, ctx->r12) &&
	    !read_string(s->text, ctx->bp) && !read_string(s->text, ctx->bx) && !read_string(s->text, ctx->r13) &&
	    !read_string(s->text, ctx->r14) && !read_string(s->text, ctx->r15))
		return 0;
	s->object = ctx->di;
	s->start = bpf_ktime_get_ns();
	t->scopes = depth + 1;
	return 0;
}

/* at::RecordFunction::end(this) */
SEC("uprobe/scope_exit")
int scope_exit(struct user_regs *ctx)
{
	struct thread *t;
	if (!is_target())
		return 0;
	count_hit(HIT_TORCH, 1);
	if (!(t = this_thread()) || t->scopes == 0)
		return 0;
	u64 now = bpf_ktime_get_ns();
	u32 depth = t->scopes;
	struct scope *s = NULL;
	for (int i = 0; i < SCOPE_DEPTH; i++) {
		if (depth == 0)
			return 0;
		depth--;
		if (t->scope[depth & (SCOPE_DEPTH - 1)].object == ctx->di) {
			s = &t->scope[depth & (SCOPE_DEPTH - 1)];
			break;
		}
	}
	if (!s)
		return 0;
	struct call_slice *record = bpf_ringbuf_reserve(&rare, sizeof(*record), 0);
	t->scopes = depth;
	if (!record) {
		count_lost(LOST_RARE);
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record));
	fill_head(&record->h, s->start, now, KIND_TORCH, 0, depth);
	__builtin_memcpy(record->text, s->text, sizeof(record->text));
	bpf_ringbuf_submit(record, rare_wakeup());
	return 0;
}

/* ---- gloo: a collective is enqueued by one thread and run by another ---- */

/* ProcessGroupGloo::allreduce and its kin */
SEC("uprobe/collective_enter")
int collective_enter(struct user_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	struct thread *t;
	if (!is_target() || !(t = this_thread()))
		return 0;
	count_hit(HIT_NCCL, 1);
	t->collective = OP_ID(cookie);
	return 0;
}

/* ProcessGroupGloo::enqueue(this, intrusive_ptr<AsyncWork> work) */
SEC("uprobe/work_new")
int work_new(struct user_regs *ctx)
{
	struct node_key key = {};
	struct thread *t;
	if (!is_target() || !(t = this_thread()))
		return 0;
	count_hit(HIT_NCCL, 1);
	u32 id = t->collective;
	if (!id || bpf_probe_read_user(&key.vtable, sizeof(key.vtable), (void *)ctx->si))
		return 0;
	key.tgid = bpf_get_current_pid_tgid() >> 32;
	bpf_map_update_elem(&works, &key, &id, BPF_ANY);
	return 0;
}

/* AsyncWork::execute(intrusive_ptr<AsyncWork> work); its end is a rare_exit of its own id */
SEC("uprobe/work_enter")
int work_enter(struct user_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	struct node_key key = {};
	struct thread *t;
	if (!is_target() || !(t = this_thread()))
		return 0;
	count_hit(HIT_NCCL, 1);
	if (bpf_probe_read_user(&key.vtable, sizeof(key.vtable), (void *)ctx->di))
		return 0;
	key.tgid = bpf_get_current_pid_tgid() >> 32;
	u32 *id = bpf_map_lookup_elem(&works, &key);
	push_op(t, ctx->sp + OP_DELTA(cookie), OP_ID(cookie));
	/* Which collective it runs: parked in the frame's spare word. */
	t->op[(t->ops - 1) & (OP_DEPTH - 1)].pad = id ? *id : 0;
	bpf_map_delete_elem(&works, &key);
	return 0;
}

SEC("uprobe/work_exit")
int work_exit(struct user_regs *ctx)
{
	u64 now = bpf_ktime_get_ns();
	u64 cookie = bpf_get_attach_cookie(ctx);
	struct thread *t;
	struct head h;
	if (!is_target() || !(t = this_thread()))
		return 0;
	count_hit(HIT_NCCL, 1);
	u32 at = find_op(t, cookie, ctx->sp + OP_DELTA(cookie));
	if (at >= OP_DEPTH)
		return 0;
	struct op_frame *f = &t->op[at & (OP_DEPTH - 1)];
	fill_head(&h, f->start, now, KIND_OP, f->pad ? f->pad : f->id, at);
	emit_rare(&h, sizeof(h), rare_wakeup());
	return 0;
}

/* ---- C functions: CUDA and NCCL ---- */

static __always_inline u32 drop_calls(struct thread *t, u64 sp)
{
	u32 depth = t->calls;
	for (int i = 0; i < CALL_DEPTH; i++) {
		if (depth == 0 || depth > CALL_DEPTH)
			break;
		if (t->call[(depth - 1) & (CALL_DEPTH - 1)].sp >= sp)
			break;
		depth--;
	}
	return depth;
}

static __always_inline void count_call(u64 cookie, bool exit)
{
	count_hit(cookie & CALL_NCCL ? HIT_NCCL : exit ? HIT_CUDA_RET : HIT_CUDA, 1);
}

/* The argument a cookie names, 1-based. */
static __always_inline u64 argument(const u64 *args, u32 which)
{
	switch (which) {
	case 1: return args[0];
	case 2: return args[1];
	case 3: return args[2];
	case 4: return args[3];
	case 5: return args[4];
	case 6: return args[5];
	}
	return 0;
}

/* Fills a call's arguments in; returns false when the call is to be left out: the driver's
 * part of a runtime call says nothing new. */
static __always_inline bool enter_call(struct user_regs *ctx, struct thread *t, u64 cookie, u32 *at)
{
	u64 sp = ctx->sp + CALL_DELTA(cookie);
	u64 words[4] = {};
	u32 depth = drop_calls(t, sp + 1);
	t->calls = depth;
	if (depth > 0 && (cookie & CALL_DRIVER) && (t->call[(depth - 1) & (CALL_DEPTH - 1)].cookie & CALL_RUNTIME))
		return false;
	if (depth >= CALL_DEPTH) {
		count_lost(LOST_UNPAIRED);
		return false;
	}
	struct call_frame *f = &t->call[depth & (CALL_DEPTH - 1)];
	bpf_probe_read_user(words, sizeof(words), (void *)sp);
	f->sp = sp;
	f->cookie = cookie;
	f->args[0] = ctx->di;
	f->args[1] = ctx->si;
	f->args[2] = ctx->dx;
	f->args[3] = ctx->cx;
	f->args[4] = ctx->r8;
	f->args[5] = ctx->r9;
	f->caller = words[0];
	f->stack[0] = words[1];
	f->stack[1] = words[2];
	f->extra = cookie & CALL_STACK3 ? words[3] : 0;
	f->text[0] = 0;
	if (cookie & CALL_CONFIG)
		bpf_probe_read_user(f->text, 56, (void *)ctx->di);
	*at = depth;
	return true;
}

static __always_inline void emit_call(struct call_frame *f, u64 end, u64 ret, u64 extra, bool text)
{
	u64 cookie = f->cookie;
	bool nccl = cookie & CALL_NCCL;
	struct call_slice *record = nccl ? bpf_ringbuf_reserve(&rare, sizeof(*record), 0)
					 : bpf_ringbuf_reserve(&slices, sizeof(*record), 0);
	if (!record) {
		count_lost(nccl ? LOST_RARE : LOST_SLICES);
		return;
	}
	fill_head(&record->h, f->start, end, nccl ? KIND_NCCL : KIND_CUDA, CALL_ID(cookie), 0);
	__builtin_memcpy(record->args, f->args, sizeof(record->args));
	__builtin_memcpy(record->stack, f->stack, sizeof(record->stack));
	record->caller = f->caller;
	record->ret = ret;
	record->extra = extra;
	__builtin_memcpy(record->text, f->text, sizeof(record->text));
	if (text)
		bpf_probe_read_user_str(record->text, sizeof(record->text), (void *)argument(f->args, CALL_TEXT(cookie)));
	bpf_ringbuf_submit(record, nccl ? rare_wakeup() : slices_wakeup());
}

SEC("uprobe/call_enter")
int call_enter(struct user_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	struct thread *t;
	u32 at;
	if (!is_target() || !(t = this_thread()))
		return 0;
	count_call(cookie, false);
	if (!enter_call(ctx, t, cookie, &at))
		return 0;
	t->calls = at + 1;
	t->call[at & (CALL_DEPTH - 1)].start = bpf_ktime_get_ns();
	return 0;
}

/* A return probe: the return address is popped already. */
SEC("uprobe/call_exit")
int call_exit(struct user_regs *ctx)
{
	u64 now = bpf_ktime_get_ns();
	u64 cookie = bpf_get_attach_cookie(ctx);
	struct thread *t;
	if (!is_target() || !(t = this_thread()))
		return 0;
	count_call(cookie, true);
	u64 sp = ctx->sp - 8;
	u32 depth = drop_calls(t, sp);
	t->calls = depth;
	if (depth == 0 || depth > CALL_DEPTH)
		return 0;
	struct call_frame *f = &t->call[(depth - 1) & (CALL_DEPTH - 1)];
	if (f->sp != sp || CALL_ID(f->cookie) != CALL_ID(cookie))
		return 0;
	t->calls = depth - 1;
	u64 extra = f->extra;
	if (CALL_OUT(cookie))
		bpf_probe_read_user(&extra, sizeof(extra), (void *)argument(f->args, CALL_OUT(cookie)));
	emit_call(f, now, ctx->ax, extra, CALL_TEXT(cookie) != 0);
	return 0;
}

/* A call of which only the beginning is watched. */
SEC("uprobe/call_once")
int call_once(struct user_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	struct thread *t;
	u32 at;
	if (!is_target() || !(t = this_thread()))
		return 0;
	count_call(cookie, false);
	if (!enter_call(ctx, t, cookie, &at))
		return 0;
	struct call_frame *f = &t->call[at & (CALL_DEPTH - 1)];
	f->start = bpf_ktime_get_ns();
	emit_call(f, f->start, 0, f->extra, CALL_TEXT(cookie) != 0);
	return 0;
}

/* What a probe costs on this machine is measured with one that does what all do. */
SEC("uprobe/calibrate")
int calibrate(struct user_regs *ctx)
{
	if (bpf_get_attach_cookie(ctx) || is_target())
		return 0;
	count_hit(HIT_MAX - 1, this_thread() != NULL);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
