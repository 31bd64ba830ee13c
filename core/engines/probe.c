// What this kernel can do, and, where it can do nothing, whose prohibition that is and how to lift
// it.
#include "probe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "uring/features.h"
#include "uring/probe_ring.h"
#include "weir.h"

enum { PROBE_GROUPS_MAX = 256, PROBE_CAP_SYS_ADMIN = 21, PROBE_SECCOMP_FILTER = 2 };

// --- Facts ---------------------------------------------------------------------------------------

static int64_t probe_read_sysctl(const char *path)
{
    long long value;
    FILE *file = fopen(path, "re");

    if (!file)
        return -1;
    // UNTESTED: a file of /proc that holds no number
    if (fscanf(file, "%lld", &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

static bool probe_in_group(int64_t group)
{
    gid_t groups[PROBE_GROUPS_MAX];
    int count = getgroups(PROBE_GROUPS_MAX, groups);

    if (group < 0)
        return false;
    // UNTESTED: kernel.io_uring_group is not set here
    for (int i = 0; i < count; i++) {
        if (groups[i] == group)
            return true;
    }
    return getegid() == group; // UNTESTED: kernel.io_uring_group is not set here
}

// Filters and capabilities belong to threads, not to the process.
static void probe_read_status(struct probe_facts *facts)
{
    char line[256];
    FILE *file = fopen("/proc/thread-self/status", "re");

    if (!file)
        return;
    while (fgets(line, sizeof(line), file)) {
        if (!strncmp(line, "Seccomp:", 8))
            facts->seccomp = strtol(line + 8, NULL, 10) == PROBE_SECCOMP_FILTER;
        if (!strncmp(line, "CapEff:", 7))
            facts->admin = strtoull(line + 7, NULL, 16) >> PROBE_CAP_SYS_ADMIN & 1;
    }
    fclose(file);
}

static uint64_t probe_read_limit(__rlimit_resource_t resource)
{
    struct rlimit limit;

    return getrlimit(resource, &limit) ? 0 : limit.rlim_cur;
}

void probe_gather(int error, struct probe_facts *ret_facts)
{
    struct probe_facts facts = { .error = error };
    struct utsname name;

    facts.disabled = (int)probe_read_sysctl("/proc/sys/kernel/io_uring_disabled");
    facts.group = probe_read_sysctl("/proc/sys/kernel/io_uring_group");
    facts.in_group = probe_in_group(facts.group);
    facts.memlock = probe_read_limit(RLIMIT_MEMLOCK);
    facts.files = probe_read_limit(RLIMIT_NOFILE);
    if (!uname(&name))
        snprintf(facts.release, sizeof(facts.release), "%s", name.release);
    probe_read_status(&facts);
    *ret_facts = facts;
}

// --- Explanations --------------------------------------------------------------------------------

static void probe_explain_seccomp(char *ret_text, size_t size)
{
    snprintf(ret_text, size,
             "seccomp: a filter forbids io_uring; give the container a seccomp profile that adds "
             "io_uring_setup, io_uring_enter, io_uring_register");
}

static void probe_explain_sysctl(const struct probe_facts *facts, char *ret_text, size_t size)
{
    static const char *const cause = "sysctl: kernel.io_uring_disabled";
    static const char *const remedy = "as root: sysctl -w kernel.io_uring_disabled=0";

    if (facts->disabled == 1 && facts->group >= 0)
        snprintf(ret_text, size, "%s is 1 and this user is not privileged; %s, or join group %lld",
                 cause, remedy, (long long)facts->group);
    else if (facts->disabled == 1)
        snprintf(ret_text, size, "%s is 1 and this user is not privileged; %s", cause, remedy);
    else
        snprintf(ret_text, size, "%s is %d; %s", cause, facts->disabled, remedy);
}

// The sysctl is asked before seccomp, as the remedy for a filter would not help against the sysctl.
// Where its value 1 does not bind (group or capability), a filter is the likelier cause; without
// one, the capability counts only inside of a user namespace.
static void probe_explain_eperm(const struct probe_facts *facts, char *ret_text, size_t size)
{
    bool exempt = facts->disabled == 1 && (facts->in_group || facts->admin);

    if (facts->disabled > 0 && !exempt)
        probe_explain_sysctl(facts, ret_text, size);
    else if (facts->seccomp)
        probe_explain_seccomp(ret_text, size);
    else if (facts->disabled > 0)
        probe_explain_sysctl(facts, ret_text, size);
    else
        snprintf(ret_text, size,
                 "kernel: a security module (SELinux, AppArmor) forbids io_uring; allow it in that "
                 "module's policy");
}

// The sysctl exists wherever the kernel was built with io_uring: then only a filter says ENOSYS.
static void probe_explain_enosys(const struct probe_facts *facts, char *ret_text, size_t size)
{
    if (facts->seccomp && facts->disabled >= 0)
        probe_explain_seccomp(ret_text, size);
    else if (facts->seccomp)
        snprintf(
            ret_text, size,
            "kernel or seccomp: %s has no io_uring, or a filter hides it: its profile must add "
            "io_uring_setup, io_uring_enter, io_uring_register",
            facts->release);
    else
        snprintf(ret_text, size,
                 "kernel: %s was built without io_uring; it needs Linux 6.1 with CONFIG_IO_URING",
                 facts->release);
}

static void probe_explain_enomem(const struct probe_facts *facts, char *ret_text, size_t size)
{
    if (facts->memlock == RLIM_INFINITY)
        snprintf(ret_text, size, "memory: the kernel has none left for a ring");
    else
        snprintf(ret_text, size,
                 "memlock: only %" PRIu64 " KiB may be locked; raise it: ulimit -l unlimited "
                 "(systemd: LimitMEMLOCK=infinity)",
                 facts->memlock / 1024);
}

static void probe_explain_emfile(const struct probe_facts *facts, char *ret_text, size_t size)
{
    snprintf(ret_text, size,
             "files: all %" PRIu64 " descriptors are in use; raise the limit: ulimit -n 65536 "
             "(systemd: LimitNOFILE=65536)",
             facts->files);
}

static void probe_explain_enfile(const struct probe_facts *facts, char *ret_text, size_t size)
{
    (void)facts;
    snprintf(ret_text, size,
             "files: the machine's open files are all in use; as root: sysctl -w "
             "fs.file-max=1000000");
}

static void probe_explain_einval(const struct probe_facts *facts, char *ret_text, size_t size)
{
    snprintf(ret_text, size, "kernel: %s is too old for weir's io_uring; it needs Linux 6.1",
             facts->release);
}

static const struct {
    int error, result;
    void (*explain)(const struct probe_facts *facts, char *ret_text, size_t size);
} probe_explanations[] = {
    { -EPERM, -EPERM, probe_explain_eperm },    { -EACCES, -EPERM, probe_explain_eperm },
    { -ENOSYS, -ENOSYS, probe_explain_enosys }, { -ENOMEM, -ENOMEM, probe_explain_enomem },
    { -EMFILE, -EMFILE, probe_explain_emfile }, { -ENFILE, -EMFILE, probe_explain_enfile },
    { -EINVAL, -ENOSYS, probe_explain_einval },
};

int probe_explain(const struct probe_facts *facts, char *ret_text, size_t size)
{
    if (!facts->error) {
        snprintf(ret_text, size, "io_uring works");
        return 0;
    }
    for (size_t i = 0; i < sizeof(probe_explanations) / sizeof(probe_explanations[0]); i++) {
        if (probe_explanations[i].error == facts->error) {
            probe_explanations[i].explain(facts, ret_text, size);
            return probe_explanations[i].result;
        }
    }
    snprintf(ret_text, size, "kernel: %s answers: %s", facts->release, strerror(-facts->error));
    return -ENOSYS;
}

// --- Public --------------------------------------------------------------------------------------

int weir_uring_available(char *ret_text, size_t size)
{
    char detail[160];
    struct probe_facts facts;
    int error = probe_ring();

    if (!error)
        error = probe_buffer_ring(detail, sizeof(detail));
    probe_gather(error, &facts);
    return probe_explain(&facts, ret_text, ret_text ? size : 0);
}

size_t weir_capabilities(struct weir_capability *ret_rows, size_t max)
{
    char cause[sizeof(ret_rows->detail)];
    const struct feature *features;
    size_t count = features_table(&features);
    int error = weir_uring_available(cause, sizeof(cause));

    if (count > max)
        count = max;
    for (size_t i = 0; i < count; i++) {
        struct weir_capability *row = &ret_rows[i];

        *row = (struct weir_capability){
            .name = features[i].name,
            .kernel = features[i].kernel,
            .purpose = features[i].purpose,
            .in_default = features[i].in_default,
        };
        if (error)
            snprintf(row->detail, sizeof(row->detail), "%s", cause);
        else
            row->present =
                !features[i].probe || !features[i].probe(row->detail, sizeof(row->detail));
    }
    return count;
}
