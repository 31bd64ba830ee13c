// Landlock: after it, the process reaches the files and folders that were named, connects to
// nothing and binds nothing, however it asks: by system call or through a ring.
//
// The constants are here because headers of distributions are older than the kernels they run on.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox.h"

// Rights on files, by the version of the interface that brought them.
enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8,
    FS_FIRST = (1 << 13) - 1, // all of version 1
    FS_REFER = 1 << 13,       // version 2: link and rename between folders
    FS_TRUNCATE = 1 << 14,    // version 3
    FS_IOCTL_DEV = 1 << 15,   // version 5

    FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
};

enum { NET_BIND_TCP = 1, NET_CONNECT_TCP = 2 };            // version 4
enum { SCOPE_ABSTRACT_UNIX_SOCKET = 1, SCOPE_SIGNAL = 2 }; // version 6

enum { LANDLOCK_VERSION = 1, LANDLOCK_PATH_BENEATH = 1, LANDLOCK_NET_PORT = 2 };

struct landlock_ruleset {
    uint64_t fs, net, scoped;
};

// Packed as the kernel's.
struct landlock_path {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

struct landlock_port {
    uint64_t allowed, port;
};

static const uint64_t landlock_rights[] = {
    [SANDBOX_READ] = FS_READ_FILE | FS_READ_DIR,
    [SANDBOX_CHANGE] = FS_READ_FILE | FS_READ_DIR | FS_WRITE_FILE | FS_TRUNCATE | FS_REMOVE_DIR |
                       FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER,
    [SANDBOX_REPLACE] = FS_WRITE_FILE | FS_TRUNCATE | FS_REMOVE_FILE | FS_MAKE_REG,
    [SANDBOX_REMOVE] = FS_REMOVE_FILE,
};

int sandbox_landlock_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);
    return version < 0 ? 0 : (int)version;
}

// Everything that this kernel can forbid and that the server does not need.
static struct landlock_ruleset landlock_forbidden(const struct sandbox *sandbox, int version)
{
    const uint32_t abilities = sandbox->needs->abilities;
    struct landlock_ruleset forbidden = { .fs = FS_FIRST };
    if (version >= 2)
        forbidden.fs |= FS_REFER;
    if (version >= 3)
        forbidden.fs |= FS_TRUNCATE;
    if (version >= 4 && !(abilities & WEIR_ABILITY_CONNECT))
        forbidden.net |= NET_CONNECT_TCP;
    if (version >= 4 &&
        (sandbox->needs->port_first || !(abilities & (WEIR_ABILITY_LISTEN | WEIR_ABILITY_CONNECT))))
        forbidden.net |= NET_BIND_TCP;
    if (version >= 5)
        forbidden.fs |= FS_IOCTL_DEV;
    if (version >= 6)
        forbidden.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
    return forbidden;
}

// The kernel takes a shorter record from programs that were made for an older interface.
static size_t landlock_ruleset_size(int version)
{
    size_t members = version >= 6 ? 3 : version >= 4 ? 2 : 1;
    return members * sizeof(uint64_t);
}

static int landlock_allow(int ruleset, const struct landlock_ruleset *forbidden,
                          const struct sandbox_path *path)
{
    struct stat status;
    int fd = path->path ? open(path->path, O_PATH | O_CLOEXEC) : path->fd;
    // UNTESTED: logs and roots were opened just before
    if (fd < 0)
        return -errno;
    struct landlock_path rule = {
        .allowed = landlock_rights[path->access] & forbidden->fs,
        .parent_fd = fd,
    };
    if (fstat(fd, &status) == 0 && !S_ISDIR(status.st_mode))
        rule.allowed &= FS_OF_FILES;
    int error = 0;
    if (rule.allowed && syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_PATH_BENEATH, &rule, 0))
        error = -errno;
    if (path->path || path->close)
        close(fd);
    return error;
}

static int landlock_allow_all(struct sandbox *sandbox, int ruleset,
                              const struct landlock_ruleset *forbidden)
{
    for (size_t i = 0; i < sandbox->paths_count; i++) {
        const struct sandbox_path *path = &sandbox->paths[i];
        int error = landlock_allow(ruleset, forbidden, path);
        if (!error)
            continue;
        snprintf(sandbox->fault, sizeof sandbox->fault, "--sandbox: %s: %s",
                 path->path ? path->path : "a folder", strerror(-error));
        return error;
    }
    return 0;
}

static int landlock_allow_port(int ruleset, uint64_t port)
{
    const struct landlock_port rule = { .allowed = NET_BIND_TCP, .port = port };
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_NET_PORT, &rule, 0) ? -errno : 0;
}

// A socket that connects is bound to port 0 first: the kernel chooses.
static int landlock_allow_ports(const struct sandbox *sandbox, int ruleset,
                                const struct landlock_ruleset *forbidden)
{
    const struct sandbox_needs *needs = sandbox->needs;
    int error = 0;
    if (!(forbidden->net & NET_BIND_TCP) || !needs->port_first)
        return 0;
    if (needs->abilities & WEIR_ABILITY_CONNECT)
        error = landlock_allow_port(ruleset, 0);
    for (uint32_t port = needs->port_first; !error && port <= needs->port_last; port++)
        error = landlock_allow_port(ruleset, port);
    return error;
}

int sandbox_landlock_enter(struct sandbox *sandbox)
{
    int version = sandbox_landlock_version();
    if (!version)
        return 0;
    struct landlock_ruleset forbidden = landlock_forbidden(sandbox, version);
    int ruleset =
        (int)syscall(SYS_landlock_create_ruleset, &forbidden, landlock_ruleset_size(version), 0);
    int error = ruleset < 0 ? -errno : landlock_allow_all(sandbox, ruleset, &forbidden);
    if (!error)
        error = landlock_allow_ports(sandbox, ruleset, &forbidden);
    // UNTESTED: Landlock takes what it offered
    if (!error && syscall(SYS_landlock_restrict_self, ruleset, 0))
        error = -errno;
    if (ruleset >= 0)
        close(ruleset);
    // UNTESTED: Landlock takes what it offered
    if (error && !sandbox->fault[0])
        snprintf(sandbox->fault, sizeof sandbox->fault, "--sandbox: landlock: %s",
                 strerror(-error));
    sandbox->landlock = error ? 0 : version;
    return error;
}
