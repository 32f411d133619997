// SPDX-License-Identifier: MIT
// Lets User-Mode Linux run on a processor whose extended state (XSAVE) is larger than its own buffer, as with AMX.
//
// The host's kernel (5.16 and later) refuses PTRACE_SETREGSET of NT_X86_XSTATE with less than the whole state (EFAULT).
// User-Mode Linux up to 6.12 has a buffer of fixed size. So this ptrace(), loaded before libc's (LD_PRELOAD), puts what
// User-Mode Linux gives before what the process has beyond that.
// Source: Linux, arch/x86/kernel/fpu/regset.c, xstateregs_set(); arch/x86/um/os-Linux/registers.c.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

#define XSTATE_BYTES_MAX 65536 // of a processor with AMX: 11,008

long ptrace(enum __ptrace_request request, ...)
{
	static long (*libcs)(enum __ptrace_request, pid_t, void *, void *);
	static char whole[XSTATE_BYTES_MAX];
	struct iovec all = { whole, sizeof(whole) };
	va_list words;

	va_start(words, request);
	pid_t process = va_arg(words, pid_t);
	void *address = va_arg(words, void *);
	void *data = va_arg(words, void *);
	va_end(words);
	if (!libcs)
		libcs = (long (*)(enum __ptrace_request, pid_t, void *, void *))dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) {
		struct iovec *given = data;
		if (libcs(PTRACE_GETREGSET, process, address, &all) == 0 && all.iov_len > given->iov_len) {
			memcpy(whole, given->iov_base, given->iov_len);
			data = &all;
		}
	}
	return libcs(request, process, address, data);
}
