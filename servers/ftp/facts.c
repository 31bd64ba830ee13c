// See facts.h.
#include "facts.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/sysmacros.h>

// Half a year: older files show their year instead of the time of day, as ls does.
enum { FACTS_RECENT_S = 182 * 24 * 3600 };

static size_t facts_put_name(char *out, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; i < size; i++)
        out[i] = name[i] == '\n' ? '\0' : name[i];
    return size;
}

static size_t facts_put_end(char *out)
{
    out[0] = '\r';
    out[1] = '\n';
    return 2;
}

// --- LIST and NLST -------------------------------------------------------------------------------

static void facts_mode(mode_t mode, char ret_text[11])
{
    static const char letters[] = "rwxrwxrwx";
    static const struct {
        mode_t type;
        char letter;
    } types[] = {
        { S_IFDIR, 'd' }, { S_IFLNK, 'l' }, { S_IFCHR, 'c' },
        { S_IFBLK, 'b' }, { S_IFIFO, 'p' }, { S_IFSOCK, 's' },
    };
    ret_text[0] = '-';
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if ((mode & S_IFMT) == types[i].type)
            ret_text[0] = types[i].letter;
    }
    for (int i = 0; i < 9; i++)
        ret_text[i + 1] = mode >> (8 - i) & 1 ? letters[i] : '-';
    if (mode & S_ISUID)
        ret_text[3] = mode & S_IXUSR ? 's' : 'S';
    // UNTESTED: no test lists a file with set-group-ID
    if (mode & S_ISGID)
        ret_text[6] = mode & S_IXGRP ? 's' : 'S';
    if (mode & S_ISVTX)
        ret_text[9] = mode & S_IXOTH ? 't' : 'T';
    ret_text[10] = '\0';
}

size_t ftp_facts_list(const struct ftp_entry *entry, time_t now, char ret_line[FTP_FACTS_LINE_MAX])
{
    // Not strftime: month names must not depend on a locale.
    static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    const struct stat *status = entry->status;
    struct tm parts;
    char mode[11], time[16];
    gmtime_r(&status->st_mtime, &parts);
    if (status->st_mtime > now || status->st_mtime < now - FACTS_RECENT_S)
        snprintf(time, sizeof time, " %d", (parts.tm_year + 1900) % 100000);
    else
        snprintf(time, sizeof time, "%02d:%02d", parts.tm_hour, parts.tm_min);
    facts_mode(status->st_mode, mode);
    int head = snprintf(ret_line, FTP_FACTS_LINE_MAX, "%s %4lu %-8u %-8u %12lld %s %2d %s ", mode,
                        (unsigned long)status->st_nlink, status->st_uid, status->st_gid,
                        (long long)status->st_size, months[parts.tm_mon], parts.tm_mday, time);
    size_t size = (size_t)head;
    size += facts_put_name(ret_line + size, entry->name);
    if (entry->target) {
        memcpy(ret_line + size, " -> ", 4);
        size += 4;
        size += facts_put_name(ret_line + size, entry->target);
    }
    return size + facts_put_end(ret_line + size);
}

size_t ftp_facts_name(const char *prefix, const char *name, char ret_line[FTP_FACTS_LINE_MAX])
{
    size_t size = facts_put_name(ret_line, prefix);
    size += facts_put_name(ret_line + size, name);
    return size + facts_put_end(ret_line + size);
}

// --- MLSD and MLST -------------------------------------------------------------------------------

static const struct {
    const char *name;
    enum ftp_fact fact;
} facts_names[] = {
    { "type", FTP_FACT_TYPE }, { "size", FTP_FACT_SIZE },     { "modify", FTP_FACT_MODIFY },
    { "perm", FTP_FACT_PERM }, { "unique", FTP_FACT_UNIQUE }, { "UNIX.mode", FTP_FACT_MODE },
};

enum { FACTS_NAMES = sizeof facts_names / sizeof facts_names[0] };

static const char *facts_type(const struct stat *status)
{
    if (S_ISDIR(status->st_mode))
        return "dir";
    if (S_ISREG(status->st_mode))
        return "file";
    return S_ISLNK(status->st_mode) ? "OS.unix=slink" : "OS.unix=special";
}

static const char *facts_perm(const struct stat *status, bool writable)
{
    if (S_ISDIR(status->st_mode))
        return writable ? "cdeflmp" : "el";
    if (S_ISREG(status->st_mode))
        return writable ? "adfrw" : "r";
    return writable ? "df" : "";
}

static int facts_value(enum ftp_fact fact, const struct stat *status, bool writable, char *out,
                       size_t size)
{
    char time[16];
    switch (fact) {
    case FTP_FACT_TYPE:
        return snprintf(out, size, "type=%s;", facts_type(status));
    case FTP_FACT_SIZE: // of a directory it would say nothing
        return S_ISREG(status->st_mode)
                   ? snprintf(out, size, "size=%lld;", (long long)status->st_size)
                   : 0;
    case FTP_FACT_MODIFY:
        ftp_facts_time(status->st_mtime, time);
        return snprintf(out, size, "modify=%s;", time);
    case FTP_FACT_PERM:
        return snprintf(out, size, "perm=%s;", facts_perm(status, writable));
    case FTP_FACT_UNIQUE:
        return snprintf(out, size, "unique=%xg%xg%llx;", major(status->st_dev),
                        minor(status->st_dev), (unsigned long long)status->st_ino);
    case FTP_FACT_MODE:
        return snprintf(out, size, "UNIX.mode=0%03o;", status->st_mode & 07777);
    // UNTESTED: the loop over facts ends before
    case FTP_FACTS_ALL:
        break;
    }
    return 0; // UNTESTED: every fact returns above
}

size_t ftp_facts_machine(const struct ftp_entry *entry, uint32_t facts, bool writable,
                         char ret_line[FTP_FACTS_LINE_MAX])
{
    size_t size = 0;
    for (int i = 0; i < FACTS_NAMES; i++) {
        if (facts & (uint32_t)facts_names[i].fact)
            size += (size_t)facts_value(facts_names[i].fact, entry->status, writable,
                                        ret_line + size, FTP_FACTS_LINE_MAX - size);
    }
    ret_line[size++] = ' ';
    size += facts_put_name(ret_line + size, entry->name);
    return size + facts_put_end(ret_line + size);
}

uint32_t ftp_facts_parse(const char *text)
{
    uint32_t facts = 0;
    while (*text) {
        size_t size = strcspn(text, ";");
        for (int i = 0; i < FACTS_NAMES; i++) {
            if (strlen(facts_names[i].name) == size &&
                !strncasecmp(text, facts_names[i].name, size))
                facts |= (uint32_t)facts_names[i].fact;
        }
        text += size;
        text += *text == ';';
    }
    return facts;
}

void ftp_facts_print(uint32_t facts, bool starred, char *ret_text)
{
    *ret_text = '\0';
    for (int i = 0; i < FACTS_NAMES; i++) {
        bool chosen = facts & (uint32_t)facts_names[i].fact;
        if (chosen || starred)
            ret_text +=
                sprintf(ret_text, "%s%s;", facts_names[i].name, chosen && starred ? "*" : "");
    }
}

// --- Times ---------------------------------------------------------------------------------------

void ftp_facts_time(time_t time, char ret_text[16])
{
    struct tm parts;
    gmtime_r(&time, &parts);
    // The remainders tell the compiler how wide the numbers are.
    snprintf(ret_text, 16, "%04u%02u%02u%02u%02u%02u", (unsigned)(parts.tm_year + 1900) % 10000,
             (unsigned)(parts.tm_mon + 1) % 100, (unsigned)parts.tm_mday % 100,
             (unsigned)parts.tm_hour % 100, (unsigned)parts.tm_min % 100,
             (unsigned)parts.tm_sec % 100);
}

static int facts_number(const char **text, int digits)
{
    int number = 0;
    while (digits--)
        number = number * 10 + (*(*text)++ - '0');
    return number;
}

bool ftp_facts_time_parse(const char *text, size_t size, time_t *ret_time)
{
    enum { DIGITS = 14 };
    size_t digits = strspn(text, "0123456789");
    if (digits != DIGITS || size < DIGITS)
        return false;
    if (size > DIGITS && (text[DIGITS] != '.' || size == DIGITS + 1 ||
                          strspn(text + DIGITS + 1, "0123456789") < size - DIGITS - 1))
        return false;
    struct tm parts = { 0 }, back;
    parts.tm_year = facts_number(&text, 4) - 1900;
    parts.tm_mon = facts_number(&text, 2) - 1;
    parts.tm_mday = facts_number(&text, 2);
    parts.tm_hour = facts_number(&text, 2);
    parts.tm_min = facts_number(&text, 2);
    parts.tm_sec = facts_number(&text, 2);
    struct tm given = parts;
    *ret_time = timegm(&parts);
    // timegm carries over what does not exist (the 31st of June): such a time is refused.
    gmtime_r(ret_time, &back);
    return back.tm_mon == given.tm_mon && back.tm_mday == given.tm_mday &&
           back.tm_hour == given.tm_hour && back.tm_min == given.tm_min &&
           back.tm_sec == given.tm_sec && back.tm_year == given.tm_year;
}
