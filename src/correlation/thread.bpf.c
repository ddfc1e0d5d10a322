// SPDX-License-Identifier: MIT OR GPL-2.0
//
// Which thread reads a request, and which then sends a call: noted in the kernel, for src/correlation/thread.rs.
//
// BTF tracepoints: sock_recv_length and sock_send_length (Linux 6.3) fire after every receive and send of every socket,
// sched_process_fork in a thread that made another thread or process. What is not of hopspan's network namespace, or neither a connection to the app nor one of its calls, is left
// after a few loads. Kernel structures are read only, through CO-RE; no user memory and no payload is ever looked at.
// Nothing is decided here: whether a call is joined is decide.rs's matter. What speaks against it is a flag.
//
// Terms: a *request* is what arrives on a socket that hopspan connected to the app; a *call* is what the app sends on a
// socket that it connected to hopspan.

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef long long __s64;
enum { false, true };

#define SEC(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline)) inline
#define KERNEL __attribute__((preserve_access_index))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name

// bpf-helpers(7), by number.
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static __u64 (*bpf_get_socket_cookie)(void *sk) = (void *)46;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*bpf_get_ns_current_pid_tgid)(__u64 dev, __u64 ino, void *info, __u32 size) = (void *)120;
static void *(*bpf_task_storage_get)(void *map, void *task, void *value, __u64 flags) = (void *)156;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;

enum { HASH = 1, ARRAY = 2, LRU_HASH = 9, TASK_STORAGE = 29, NO_PREALLOC = 1, CREATE = 1 };
enum { AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10, STREAM = 1, TCP = 6, MSG_PEEK = 2, O_NONBLOCK = 04000 };

// The parts of the kernel's structures that are read; offsets are the running kernel's.
struct hlist_head { void *first; } KERNEL;
struct file { struct hlist_head *f_ep; unsigned int f_flags; } KERNEL;
struct socket { struct file *file; } KERNEL;
struct ns_common { unsigned int inum; } KERNEL;
struct net { struct ns_common ns; } KERNEL;
typedef struct { struct net *net; } KERNEL possible_net_t;
typedef struct { __s64 counter; } KERNEL atomic64_t;
struct in6_addr { union { __u8 u6_addr8[16]; } in6_u; } KERNEL;
struct sock_common {
	__u32 skc_daddr;
	__u32 skc_rcv_saddr;
	__u16 skc_dport;
	__u16 skc_num;
	__u16 skc_family;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
} KERNEL;
struct sock {
	struct sock_common __sk_common;
	__u8 sk_shutdown;
	__u16 sk_type;
	__u16 sk_protocol;
	struct socket *sk_socket;
} KERNEL;
struct unix_sock { struct sock *peer; } KERNEL;
struct tcp_sock {
	__u32 snd_nxt;
	__u32 write_seq;
	__u64 bytes_sent;
	__u64 bytes_retrans;
} KERNEL;
struct io_uring_task;
struct task_struct {
	struct task_struct *group_leader;
	__u64 start_boottime;
	int pid;
	int tgid;
	struct io_uring_task *io_uring;
} KERNEL;

// Set by the loader: hopspan's network namespace, and the PID namespace whose numbers it understands.
volatile const __u32 NETNS = 0;
volatile const __u64 PIDNS_DEV = 0;
volatile const __u64 PIDNS_INO = 0;

// What a port is. Value of `ports`.
#define APP 1   // the app listens there: what is read from it are requests
#define CALLS 2 // hopspan's outbound listener: what is sent to it are calls

// What speaks against a join. The same numbers as in src/correlation/thread/record.rs.
#define NO_REQUEST 1      // the thread has read none
#define READ_IN_EPOLL 2   // the request was read while its socket was in an epoll set: an event loop
#define IN_EPOLL 4        // the request's socket was in one when the call was sent
#define CALL_IN_EPOLL 8   // the call's socket was in one
#define URING 16          // the thread uses io_uring, whose waits are not seen here
#define OVERLAP 32        // it read this request before it had answered another one
#define SEVERAL 64        // it did so before, ever
#define HANDS_OVER 128    // another thread answered a request that it had read, ever
#define SPLIT_REQUEST 256 // several threads have read this request
#define SPLIT_CALL 512    // the call's bytes came from several threads, or during several requests
#define TAKEN 1024        // another thread reads from the request's connection since
#define CLOSED 2048       // the request's socket was closed
#define FORGOTTEN 4096    // what was known of the request was evicted
#define NONBLOCKING 8192  // the request's socket does not block: says nothing alone
#define ANSWERED 16384    // the call has been answered, at least in part: the next bytes begin another one
#define FORKED 32768      // it made a process since it began to read this request: that one may answer in its stead

#define OF_THREAD (SEVERAL | HANDS_OVER)

// Both addresses of a connection as the app's socket has them; IPv4 in its IPv4-mapped form. For a unix socket,
// remote[0] is the cookie of hopspan's socket and the rest is 0.
struct ends {
	__u64 local[2];
	__u64 remote[2];
	__u16 local_port;
	__u16 remote_port;
	__u32 family; // 0 for TCP, AF_UNIX
};

// A thread that has read a request. Ends with the thread.
struct thread {
	__u64 id;      // never used twice
	__u64 request; // the cookie of the socket it last read from
	__u64 socket;  // that socket's address: to be looked at, never trusted
	__u64 read_at; // the last read
	struct ends ends;
	__u32 flags;
	__u32 unused;
};

// The newest request on one of hopspan's connections to the app.
struct request {
	__u64 reader;      // the thread that read its first bytes
	__u64 read_at;     // the last read
	__u64 answered_at; // the last write, of this request's answer or of one before
	__u64 written;     // bytes that the app wrote in all
	__u64 handed_by;   // the last thread whose request another one answered
	__u32 split;
	__u32 unused;
};

// The newest call on a connection to hopspan. The same layout as in src/correlation/thread/record.rs.
struct call {
	__u64 sent;   // bytes on this connection. Written last: what belongs to them stands in the record by then
	__u64 cookie; // of the call's socket
	__u64 began;  // of `sent`, what was there before this call
	__u64 thread; // of its first bytes; 0: one that has read no request
	__u64 request;
	__u64 read_at;     // when this thread last read of the request
	__u64 answered_at; // when the app last wrote to the request's connection, and how much in all
	__u64 written;
	__u64 sent_at; // the last send
	__u64 started; // of the process
	__u64 queued;  // bytes on this connection by the kernel's own count, whoever sent them
	__u32 flags;
	__u32 process; // in hopspan's PID namespace; 0: not visible there
	struct ends ends; // of the request
};

struct {
	__uint(type, HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

// Cookies of hopspan's unix sockets that are connected to the app.
struct {
	__uint(type, HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} peers SEC(".maps");

struct {
	__uint(type, TASK_STORAGE);
	__uint(map_flags, NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread);
} threads SEC(".maps");

struct {
	__uint(type, LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct request);
} requests SEC(".maps");

struct {
	__uint(type, LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ends);
	__type(value, struct call);
} calls SEC(".maps");

// What could not be noted for lack of memory.
struct {
	__uint(type, ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

__u64 last_thread = 0;

INLINE void note_lost(void)
{
	__u32 at = 0;
	__u64 *count = bpf_map_lookup_elem(&lost, &at);
	if (count)
		__sync_fetch_and_add(count, 1);
}

INLINE __u32 role(__u32 port)
{
	__u32 *found = bpf_map_lookup_elem(&ports, &port);
	return found ? *found : 0;
}

INLINE int in_epoll(struct sock *sk)
{
	struct hlist_head *sets = sk->sk_socket->file->f_ep;
	return sets && sets->first;
}

#define LOOK(to, from) (bpf_probe_read_kernel(&(to), sizeof(to), __builtin_preserve_access_index(&(from))) == 0)

// The same of a socket that was met earlier. Its memory may belong to another by now: the cookie tells.
INLINE __u32 look_again(struct thread *thread, int *open)
{
	struct sock *sk = (struct sock *)thread->socket;
	struct socket *socket = 0;
	struct file *file = 0;
	struct hlist_head *sets = 0;
	void *first = 0;
	__u64 cookie = 0;
	__u8 shutdown = 0;

	*open = false;
	if (!LOOK(cookie, sk->__sk_common.skc_cookie.counter) || cookie != thread->request)
		return CLOSED;
	// close(2) takes the socket's file away at once.
	if (!LOOK(socket, sk->sk_socket) || !socket)
		return CLOSED;
	*open = LOOK(shutdown, sk->sk_shutdown) && !shutdown;
	if (LOOK(file, socket->file) && file && LOOK(sets, file->f_ep) && sets && LOOK(first, sets->first) && first)
		return IN_EPOLL;
	return 0;
}

INLINE void describe(struct sock *sk, struct ends *ends)
{
	__builtin_memset(ends, 0, sizeof(*ends));
	if (sk->__sk_common.skc_family == AF_INET) {
		ends->local[1] = (__u64)sk->__sk_common.skc_rcv_saddr << 32 | 0xffff0000;
		ends->remote[1] = (__u64)sk->__sk_common.skc_daddr << 32 | 0xffff0000;
	} else {
		__u64 *local = (__u64 *)sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8;
		__u64 *remote = (__u64 *)sk->__sk_common.skc_v6_daddr.in6_u.u6_addr8;
		ends->local[0] = local[0];
		ends->local[1] = local[1];
		ends->remote[0] = remote[0];
		ends->remote[1] = remote[1];
	}
	ends->local_port = sk->__sk_common.skc_num;
	ends->remote_port = __builtin_bswap16(sk->__sk_common.skc_dport);
}

// The cookie of a unix socket's peer; 0 where it has none, as nearly all.
INLINE __u64 peer_of(struct sock *sk)
{
	struct unix_sock *unix_sock = (struct unix_sock *)sk;
	struct sock *peer = 0;
	__u64 cookie = 0;

	if (sk->sk_type != STREAM || !LOOK(peer, unix_sock->peer) || !peer)
		return 0;
	LOOK(cookie, peer->__sk_common.skc_cookie.counter);
	return cookie;
}

// What a socket is for: APP, CALLS or 0. `peer` is set for the app's unix sockets.
INLINE __u32 purpose(struct sock *sk, __u64 *peer)
{
	__u16 family = sk->__sk_common.skc_family;
	__u32 port;

	*peer = 0;
	if (sk->__sk_common.skc_net.net->ns.inum != NETNS)
		return 0;
	if (family == AF_UNIX) {
		__u64 cookie = peer_of(sk);
		if (!cookie || !bpf_map_lookup_elem(&peers, &cookie))
			return 0;
		*peer = cookie;
		return APP;
	}
	if ((family != AF_INET && family != AF_INET6) || sk->sk_protocol != TCP)
		return 0;
	port = sk->__sk_common.skc_num;
	if (role(port) & APP)
		return APP;
	port = __builtin_bswap16(sk->__sk_common.skc_dport);
	return role(port) & CALLS;
}

// This thread, if it has ever read a request.
INLINE struct thread *this_thread(void)
{
	struct thread *thread = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0, 0);
	return thread && thread->id ? thread : 0;
}

// A thread turns from one request to another: what that says of the thread.
INLINE __u32 leave_behind(struct thread *thread)
{
	struct request *before = bpf_map_lookup_elem(&requests, &thread->request);
	__u32 flags = 0, epoll;
	int open;

	if (!before)
		return 0;
	if (before->handed_by == thread->id)
		flags |= HANDS_OVER;
	if (before->answered_at >= thread->read_at || before->reader != thread->id)
		return flags;
	// Not answered. Fine if it is given up, or only waits in a poller for its next request.
	epoll = look_again(thread, &open);
	if (open)
		flags |= OVERLAP | (epoll ? 0 : SEVERAL);
	return flags;
}

INLINE void request_read(struct sock *sk, __u64 peer)
{
	__u64 cookie = bpf_get_socket_cookie(sk), now = bpf_ktime_get_ns();
	struct request *request, fresh = {};
	struct thread *thread;
	__u32 flags;
	int turned;

	thread = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0, CREATE);
	if (!thread)
		return note_lost();
	if (!thread->id)
		thread->id = __sync_fetch_and_add(&last_thread, 1) + 1;
	flags = thread->flags;
	turned = thread->request != cookie;
	if (turned) {
		flags &= OF_THREAD;
		if (thread->request)
			flags |= leave_behind(thread);
		thread->request = cookie;
		thread->socket = (__u64)sk;
		if (peer) {
			__builtin_memset(&thread->ends, 0, sizeof(thread->ends));
			thread->ends.remote[0] = peer;
			thread->ends.family = AF_UNIX;
		} else {
			describe(sk, &thread->ends);
		}
	}
	request = bpf_map_lookup_elem(&requests, &cookie);
	if (!request) {
		bpf_map_update_elem(&requests, &cookie, &fresh, 0);
		request = bpf_map_lookup_elem(&requests, &cookie);
	}
	if (!request) {
		thread->request = 0;
		return note_lost();
	}
	if (!request->reader || request->answered_at >= request->read_at) {
		// The first bytes of a request.
		if (request->handed_by == thread->id)
			flags |= HANDS_OVER;
		request->reader = thread->id;
		request->split = 0;
		if (!turned)
			flags &= OF_THREAD;
	} else if (request->reader != thread->id) {
		request->split = 1;
	}
	if (in_epoll(sk))
		flags |= READ_IN_EPOLL;
	if (sk->sk_socket->file->f_flags & O_NONBLOCK)
		flags |= NONBLOCKING;
	request->read_at = now;
	thread->read_at = now;
	thread->flags = flags;
}

INLINE void request_answered(struct sock *sk, int length)
{
	__u64 cookie = bpf_get_socket_cookie(sk), id;
	struct request *request = bpf_map_lookup_elem(&requests, &cookie);
	struct thread *thread = this_thread();

	if (!request)
		return;
	id = thread ? thread->id : 0;
	if (request->answered_at < request->read_at && request->reader != id)
		request->handed_by = request->reader;
	request->answered_at = bpf_ktime_get_ns();
	__sync_fetch_and_add(&request->written, length);
}

// What speaks against a join, as of now.
INLINE __u32 objections(struct sock *sk, struct thread *thread, struct request *request)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 flags;
	int open;

	if (!thread || !thread->request)
		return NO_REQUEST;
	flags = thread->flags | look_again(thread, &open);
	if (!request)
		flags |= FORGOTTEN;
	else {
		if (request->split)
			flags |= SPLIT_REQUEST;
		if (request->reader != thread->id)
			flags |= TAKEN;
		if (request->handed_by == thread->id)
			flags |= HANDS_OVER;
	}
	if (in_epoll(sk))
		flags |= CALL_IN_EPOLL;
	if (__builtin_preserve_field_info(task->io_uring, 2 /* does it exist? */) && task->io_uring)
		flags |= URING;
	return flags;
}

// What was ever put on a TCP connection: sent, less what was sent again, and what waits. The fields change meanwhile; read
// in this order, the sum errs upwards.
INLINE __u64 queued_on(struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	__u32 next = 0, end = 0;
	__u64 again = 0, sent = 0;

	if (!LOOK(again, tcp->bytes_retrans) || !LOOK(next, tcp->snd_nxt) || !LOOK(end, tcp->write_seq) ||
	    !LOOK(sent, tcp->bytes_sent))
		return 0;
	return sent - again + (end - next);
}

INLINE void call_sent(struct sock *sk, int length)
{
	struct { __u32 pid, tgid; } number = {};
	struct call *call, fresh = {};
	struct request *request = 0;
	struct thread *thread;
	struct ends key;
	__u64 cookie = bpf_get_socket_cookie(sk), queued;
	__u32 before, flags;

	describe(sk, &key);
	queued = queued_on(sk);
	call = bpf_map_lookup_elem(&calls, &key);
	if (!call || call->cookie != cookie) {
		// A new connection, perhaps with the addresses of an old one.
		fresh.cookie = cookie;
		fresh.flags = ANSWERED;
		bpf_map_update_elem(&calls, &key, &fresh, 0);
		call = bpf_map_lookup_elem(&calls, &key);
		if (!call)
			return note_lost();
	}
	thread = this_thread();
	if (thread)
		request = bpf_map_lookup_elem(&requests, &thread->request);
	flags = objections(sk, thread, request);
	// A send is noted when it returns, so two threads' may be noted the other way round than their bytes went, and a
	// call seen as the other thread's. The kernel's count then grew by more, or by less, than this send.
	if (queued != call->queued + length)
		flags |= SPLIT_CALL;
	call->queued = queued;
	before = __sync_fetch_and_and(&call->flags, ~ANSWERED);
	if (before & ANSWERED) {
		call->began = call->sent;
		call->thread = thread ? thread->id : 0;
		call->request = thread ? thread->request : 0;
		call->started = bpf_get_current_task_btf()->group_leader->start_boottime;
		if (bpf_get_ns_current_pid_tgid(PIDNS_DEV, PIDNS_INO, &number, sizeof(number)) == 0)
			call->process = number.tgid;
		else
			call->process = 0;
		if (thread)
			call->ends = thread->ends;
		else
			__builtin_memset(&call->ends, 0, sizeof(call->ends));
		call->flags = flags;
	} else {
		if (call->thread != (thread ? thread->id : 0) || call->request != (thread ? thread->request : 0))
			flags |= SPLIT_CALL;
		// The same thread answered, and is in its next request on the same connection.
		if (thread && request && request->answered_at >= call->sent_at)
			flags |= SPLIT_CALL;
		__sync_fetch_and_or(&call->flags, flags);
	}
	call->read_at = thread ? thread->read_at : 0;
	call->answered_at = request ? request->answered_at : 0;
	call->written = request ? request->written : 0;
	call->sent_at = bpf_ktime_get_ns();
	__sync_fetch_and_add(&call->sent, length);
}

INLINE void call_answered(struct sock *sk)
{
	struct call *call;
	struct ends key;

	describe(sk, &key);
	call = bpf_map_lookup_elem(&calls, &key);
	if (call)
		__sync_fetch_and_or(&call->flags, ANSWERED);
}

SEC("tp_btf/sock_recv_length")
int on_receive(__u64 *arguments)
{
	struct sock *sk = (struct sock *)arguments[0];
	int length = (int)arguments[1], flags = (int)arguments[2];
	__u64 peer;
	__u32 what;

	if (length <= 0 || flags & MSG_PEEK || !sk)
		return 0;
	what = purpose(sk, &peer);
	if (what == APP)
		request_read(sk, peer);
	else if (what == CALLS)
		call_answered(sk);
	return 0;
}

SEC("tp_btf/sock_send_length")
int on_send(__u64 *arguments)
{
	struct sock *sk = (struct sock *)arguments[0];
	int length = (int)arguments[1];
	__u64 peer;
	__u32 what;

	if (length <= 0 || !sk)
		return 0;
	what = purpose(sk, &peer);
	if (what == APP)
		request_answered(sk, length);
	else if (what == CALLS)
		call_sent(sk, length);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int on_fork(__u64 *arguments)
{
	struct task_struct *child = (struct task_struct *)arguments[1];
	struct thread *thread;

	// A thread of the same process: a hand-over to it shows when it answers.
	if (!child || child->pid != child->tgid)
		return 0;
	thread = this_thread();
	if (thread)
		thread->flags |= FORKED;
	return 0;
}

// Some of the helpers are for programs under the GPL or a licence compatible with it.
char LICENSE[] SEC("license") = "Dual MIT/GPL";
