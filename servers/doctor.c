// weir doctor: what this machine offers to weir, and the command that mends what is missing.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <weir.h>

#include "commands.h"
#include "options.h"
#include "serve.h"

enum { DOCTOR_ROWS_MAX = 64, DOCTOR_FILES_WANTED = 65536, DOCTOR_BACKLOG_WANTED = 4096 };

// Below this, rings may not fit: kernels before 5.12 and from 6.14 on charge them to the limit.
#define DOCTOR_MEMLOCK_WANTED (8ULL << 20)

// A limit of the machine or the process; UINT64_MAX: unlimited.
struct doctor_limit {
    const char *name;
    unsigned long long value, wanted;
    const char *mend;
};

struct doctor {
    bool json;
    int uring;
    char uring_text[512];
    struct utsname system;
    struct weir_capability rows[DOCTOR_ROWS_MAX];
    size_t rows_count;
    struct doctor_limit limits[3];
};

enum { DOCTOR_LIMITS = 3 };

// --- Looking -------------------------------------------------------------------------------------

static unsigned long long doctor_rlimit(int resource)
{
    struct rlimit limit;
    // UNTESTED: getrlimit of a known limit
    if (getrlimit((__rlimit_resource_t)resource, &limit) < 0)
        return 0;
    // A server raises its own soft limit of files; the one of locked memory is what counts.
    rlim_t value = resource == RLIMIT_NOFILE ? limit.rlim_max : limit.rlim_cur;
    return value == RLIM_INFINITY ? UINT64_MAX : value;
}

static unsigned long long doctor_read_number(const char *path)
{
    unsigned long long value = 0;
    FILE *file = fopen(path, "re");
    // UNTESTED: a file of /proc that is not there
    if (!file)
        return 0;
    // UNTESTED: a file of /proc that holds no number
    if (fscanf(file, "%llu", &value) != 1)
        value = 0;
    fclose(file);
    return value;
}

static void doctor_look(struct doctor *doctor)
{
    uname(&doctor->system);
    doctor->uring = weir_uring_available(doctor->uring_text, sizeof doctor->uring_text);
    doctor->rows_count = weir_capabilities(doctor->rows, DOCTOR_ROWS_MAX);
    doctor->limits[0] = (struct doctor_limit){
        .name = "files",
        .value = doctor_rlimit(RLIMIT_NOFILE),
        .wanted = DOCTOR_FILES_WANTED,
        .mend = "as root: ulimit -Hn 65536 (systemd: LimitNOFILE=65536)",
    };
    doctor->limits[1] = (struct doctor_limit){
        .name = "memlock",
        .value = doctor_rlimit(RLIMIT_MEMLOCK),
        .wanted = DOCTOR_MEMLOCK_WANTED,
        .mend = "as root: ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)",
    };
    doctor->limits[2] = (struct doctor_limit){
        .name = "somaxconn",
        .value = doctor_read_number("/proc/sys/net/core/somaxconn"),
        .wanted = DOCTOR_BACKLOG_WANTED,
        .mend = "as root: sysctl -w net.core.somaxconn=4096",
    };
}

// --- Text ----------------------------------------------------------------------------------------

static void doctor_print_limit(const struct doctor_limit *limit)
{
    char value[32] = "unlimited";
    bool enough = limit->value >= limit->wanted;
    if (limit->value != UINT64_MAX)
        snprintf(value, sizeof value, "%llu", limit->value);
    printf("  %-4s %-20s %s%s%s\n", enough ? "ok" : "low", limit->name, value, enough ? "" : "; ",
           enough ? "" : limit->mend);
}

static void doctor_print(const struct doctor *doctor)
{
    printf("%s\n%s %s %s\n\n", weir_version_text(), doctor->system.sysname, doctor->system.release,
           doctor->system.machine);
    printf("io_uring: %s\n\nfeatures (* in the default plan):\n", doctor->uring_text);
    for (size_t i = 0; i < doctor->rows_count; i++) {
        const struct weir_capability *row = &doctor->rows[i];
        printf("  %-4s %-20s %c %-5s %s\n", row->present ? "ok" : "no", row->name,
               row->in_default ? '*' : ' ', row->kernel, row->purpose);
        if (!row->present && row->detail[0])
            printf("       %s\n", row->detail);
    }
    printf("\nlimits:\n");
    for (int i = 0; i < DOCTOR_LIMITS; i++)
        doctor_print_limit(&doctor->limits[i]);
}

// --- JSON ----------------------------------------------------------------------------------------

static void doctor_json_text(const char *name, const char *text)
{
    printf("\"%s\":\"", name);
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        // UNTESTED: texts of ours have no control characters
        if (byte < 0x20)
            printf("\\u%04x", byte);
        // UNTESTED: texts of ours have no quotes
        else if (byte == '"' || byte == '\\')
            printf("\\%c", byte);
        else
            putchar(byte);
    }
    putchar('"');
}

static void doctor_json_row(const struct weir_capability *row)
{
    putchar('{');
    doctor_json_text("name", row->name);
    putchar(',');
    doctor_json_text("kernel", row->kernel);
    putchar(',');
    doctor_json_text("purpose", row->purpose);
    printf(",\"present\":%s,\"in_default\":%s,", row->present ? "true" : "false",
           row->in_default ? "true" : "false");
    doctor_json_text("detail", row->detail);
    putchar('}');
}

static void doctor_json_limit(const struct doctor_limit *limit)
{
    bool enough = limit->value >= limit->wanted;
    putchar('{');
    doctor_json_text("name", limit->name);
    // UNTESTED: tests have limits
    if (limit->value == UINT64_MAX)
        printf(",\"value\":null,\"unlimited\":true");
    else
        printf(",\"value\":%llu,\"unlimited\":false", limit->value);
    printf(",\"wanted\":%llu,\"enough\":%s,", limit->wanted, enough ? "true" : "false");
    doctor_json_text("mend", enough ? "" : limit->mend);
    putchar('}');
}

static void doctor_json(const struct doctor *doctor)
{
    putchar('{');
    doctor_json_text("version", weir_version_text());
    putchar(',');
    doctor_json_text("kernel", doctor->system.release);
    printf(",\"uring\":{\"available\":%s,", doctor->uring ? "false" : "true");
    doctor_json_text("text", doctor->uring_text);
    printf("},\"features\":[");
    for (size_t i = 0; i < doctor->rows_count; i++) {
        if (i)
            putchar(',');
        doctor_json_row(&doctor->rows[i]);
    }
    printf("],\"limits\":[");
    for (int i = 0; i < DOCTOR_LIMITS; i++) {
        if (i)
            putchar(',');
        doctor_json_limit(&doctor->limits[i]);
    }
    printf("]}\n");
}

int doctor_main(int argc, char **argv)
{
    static const struct option_row rows[] = {
        { .name = "json",
          .help = "print one JSON object",
          .kind = OPTION_FLAG,
          .offset = offsetof(struct doctor, json) },
        { .name = NULL },
    };
    static const struct option_set options = {
        .command = "weir doctor",
        .usage = "[--json]",
        .about = "Shows what this machine offers to weir, and how to mend what is missing.\n"
                 "The exit status is 0 also when something is missing.",
        .rows = rows,
    };
    struct doctor doctor = { 0 };
    int parsed = options_parse(&options, argc, argv, &doctor);
    if (parsed)
        return parsed > 0 ? 0 : SERVE_EXIT_USAGE;
    doctor_look(&doctor);
    if (doctor.json)
        doctor_json(&doctor);
    else
        doctor_print(&doctor);
    return 0;
}
