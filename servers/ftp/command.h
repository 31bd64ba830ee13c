// FTP's control connection as text: bytes to lines, lines to commands. No socket, no state beyond
// the line that is being read.
#ifndef FTP_COMMAND_H
#define FTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A path of 4,096 bytes, the verb before it and MFMT's time; and the memory for it with its end.
enum { FTP_LINE_MAX = 4224, FTP_LINE_MEMORY = FTP_LINE_MAX + 2 };

enum ftp_read {
    FTP_READ_MORE,        // all bytes are used up and the line goes on
    FTP_READ_LINE,        // line[0, size) is a whole line, without its end, zero-terminated
    FTP_READ_TOO_LONG,    // a line ended that did not fit; none of it is kept
    FTP_READ_NEGOTIATION, // the peer offers or asks for a Telnet option; answer with `refusal`
};

// Zeroed at first. `line` is the caller's, FTP_LINE_MEMORY bytes, and must be there during a feed.
struct ftp_reader {
    char *line;
    uint16_t size;
    uint8_t state;   // enum ftp_reader_state
    uint8_t verb;    // of the negotiation that is being read
    bool too_long;   // what comes up to the line's end is dropped
    bool ended;      // the last feed returned a line; the next begins a new one
    char refusal[3]; // IAC, WONT or DONT, and the option
};

// Reads from *data on, up to the end of a line, and moves *data and *size past what it used. Telnet
// commands are taken out (RFC 854); a NUL stands for a line feed in a name, as servers have
// encoded it for decades.
enum ftp_read ftp_reader_feed(struct ftp_reader *reader, const char **data, size_t *size);

// Whether nothing of a next line was read, so that `line` may be freed.
bool ftp_reader_is_idle(const struct ftp_reader *reader);

enum ftp_verb {
    FTP_ABOR,
    FTP_ACCT,
    FTP_ADAT,
    FTP_ALLO,
    FTP_APPE,
    FTP_AUTH,
    FTP_CCC,
    FTP_CDUP,
    FTP_CONF,
    FTP_CWD,
    FTP_DELE,
    FTP_ENC,
    FTP_EPRT,
    FTP_EPSV,
    FTP_FEAT,
    FTP_HELP,
    FTP_LIST,
    FTP_MDTM,
    FTP_MFMT,
    FTP_MIC,
    FTP_MKD,
    FTP_MLSD,
    FTP_MLST,
    FTP_MODE,
    FTP_NLST,
    FTP_NOOP,
    FTP_OPTS,
    FTP_PASS,
    FTP_PASV,
    FTP_PBSZ,
    FTP_PORT,
    FTP_PROT,
    FTP_PWD,
    FTP_QUIT,
    FTP_REIN,
    FTP_REST,
    FTP_RETR,
    FTP_RMD,
    FTP_RNFR,
    FTP_RNTO,
    FTP_SITE,
    FTP_SIZE,
    FTP_SMNT,
    FTP_STAT,
    FTP_STOR,
    FTP_STOU,
    FTP_STRU,
    FTP_SYST,
    FTP_TYPE,
    FTP_USER,
    FTP_VERBS, // their number; also: an unknown verb
    FTP_HTTP,  // not FTP: a request of HTTP, which a browser may have been tricked into
};

enum ftp_need {
    FTP_NEEDS_LOGIN = 1,
    FTP_NEEDS_ARGUMENT = 2,
    FTP_TAKES_NONE = 4,
};

struct ftp_verb_row {
    const char *name;
    const char *syntax; // for HELP; NULL: known, and never offered
    uint8_t needs;      // bits of enum ftp_need
};

// Indexed by enum ftp_verb.
extern const struct ftp_verb_row ftp_verbs[FTP_VERBS];

struct ftp_command {
    enum ftp_verb verb;
    const char *argument; // "" if there is none; behind exactly one space, so names keep theirs
};

// Splits a zero-terminated line; ret_command points into it. Verbs are known in any case, and by
// their old names (XCWD, XCUP, XPWD, XMKD, XRMD).
void ftp_command_parse(const char *line, struct ftp_command *ret_command);

#endif
