// What listings say about a file: `ls -l` lines and the facts of RFC 3659. Text only.
#ifndef FTP_FACTS_H
#define FTP_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

struct ftp_entry {
    const char *name;
    const struct stat *status; // of a symbolic link itself for LIST, of its target for facts
    const char *target;        // what a symbolic link says, or NULL
};

enum ftp_fact {
    FTP_FACT_TYPE = 1,
    FTP_FACT_SIZE = 2,
    FTP_FACT_MODIFY = 4,
    FTP_FACT_PERM = 8,
    FTP_FACT_UNIQUE = 16,
    FTP_FACT_MODE = 32,
    FTP_FACTS_ALL = 63,
};

// The longest line: a path before the name (NLST) or a link's target behind it, and the numbers.
enum { FTP_FACTS_LINE_MAX = 4096 + 4096 + 256 };

// Write one line with CR LF and return its size. Line feeds in names become NUL.
size_t ftp_facts_list(const struct ftp_entry *entry, time_t now, char ret_line[FTP_FACTS_LINE_MAX]);
size_t ftp_facts_machine(const struct ftp_entry *entry, uint32_t facts, bool writable,
                         char ret_line[FTP_FACTS_LINE_MAX]);
size_t ftp_facts_name(const char *prefix, const char *name, char ret_line[FTP_FACTS_LINE_MAX]);

// The facts that "type;size;" names, as bits of enum ftp_fact; unknown ones are left out.
uint32_t ftp_facts_parse(const char *text);
// Their names, with ';' behind each; with '*' too for the chosen ones if `starred` (FEAT), and
// otherwise only the chosen ones. Needs 64 bytes.
void ftp_facts_print(uint32_t facts, bool starred, char *ret_text);

// YYYYMMDDHHMMSS, in UTC. Parsing allows a fraction of a second behind it, and fails with false.
void ftp_facts_time(time_t time, char ret_text[16]);
bool ftp_facts_time_parse(const char *text, size_t size, time_t *ret_time);

#endif
