// Keeps the coverage of a program that gives up its right to write files. gcov writes its counters
// when a program ends; a server in its sandbox may not open them by then, and one that is killed
// has no time to. So before main() a process of its own is split off, a witness, which shares the
// counters' memory, waits for the program's end, and writes them in its place.
//
// Not by fork(3): gcc makes a call of gcov's out of it, which sets the child's counters to zero,
// and these are the program's too.
//
// The program keeps no descriptor of it and is not its parent; only a coverage build links this.
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void __gcov_dump(void);
void __wrap___gcov_exit(void);
pid_t __wrap___gcov_fork(void);
int __wrap___gcov_execve(const char *path, char *const arguments[], char *const environment[]);

// Around what is zero at the start, where gcc puts the counters; the linker's names.
extern char __bss_start[], _end[];

// The linker gives all calls to gcov's own end to this: the witness writes.
void __wrap___gcov_exit(void)
{
}

// And what gcc makes of fork(3) and execve(2): a program that is killed in those would keep gcov's
// lock for ever.
pid_t __wrap___gcov_fork(void)
{
    return _Fork();
}

int __wrap___gcov_execve(const char *path, char *const arguments[], char *const environment[])
{
    return (int)syscall(SYS_execve, path, arguments, environment);
}

// Not by open(3) and mmap(3), which may fail on purpose in tests.
static int witness_open(const char *path, int flags)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0666);
}

static void *witness_map(void *at, size_t size, int flags)
{
    return (void *)syscall(SYS_mmap, at, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1,
                           0L);
}

// Makes the pages that hold the counters common to this process and those that it splits off. Their
// content moves with them. Nothing here may use a static variable meanwhile.
static int witness_share(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)__bss_start & ~(page - 1);
    size_t size = (((uintptr_t)_end + page - 1) & ~(page - 1)) - first;
    void *pages = (void *)first;
    void *copy = witness_map(NULL, size, MAP_PRIVATE);
    if (copy == MAP_FAILED)
        return -1;
    memcpy(copy, pages, size);
    if (witness_map(pages, size, MAP_SHARED | MAP_FIXED) == MAP_FAILED)
        return -1;
    memcpy(pages, copy, size);
    munmap(copy, size);
    return 0;
}

// Who holds the lock shared has not written yet: `./do coverage` waits for it.
static int witness_lock(void)
{
    int fd = witness_open(WITNESS_LOCK, O_RDONLY | O_CREAT);
    return fd < 0 ? -1 : flock(fd, LOCK_SH);
}

// Leaves the program's session and what it has open: readers of its streams wait for their end.
static void witness_leave(void)
{
    setsid();
    close_range(0, ~0U, 0);
    for (int fd = 0; fd < 3; fd++)
        witness_open("/dev/null", O_RDWR);
}

static void witness_wait(pid_t program)
{
    witness_leave();
    struct pollfd ended = { .fd = (int)syscall(SYS_pidfd_open, program, 0), .events = POLLIN };
    if (ended.fd < 0 || witness_lock() < 0)
        _exit(1);
    // The program goes on when this process ends, so its own child is the witness.
    if (_Fork())
        _exit(0);
    while (poll(&ended, 1, -1) != 1)
        continue;
    __gcov_dump();
    _exit(0);
}

// After gcov's own constructors, whose priority is the one before, and before those of the program:
// what these open or map is nothing to the witness.
__attribute__((constructor(101))) static void witness_start(void)
{
    pid_t program = getpid();
    int status = 0;
    pid_t child = witness_share() < 0 ? -1 : _Fork();
    if (child == 0)
        witness_wait(program);
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        abort();
}
