// See command.h.
#include "command.h"

#include <string.h>
#include <strings.h>

// --- Lines ---------------------------------------------------------------------------------------

enum ftp_reader_state {
    READER_TEXT,
    READER_COMMAND,        // behind IAC
    READER_OPTION,         // behind IAC and WILL, WONT, DO or DONT
    READER_SUBNEGOTIATION, // behind IAC SB, up to IAC SE
    READER_SUBNEGOTIATION_COMMAND,
};

enum telnet {
    TELNET_SE = 240,
    TELNET_SB = 250,
    TELNET_WILL = 251,
    TELNET_WONT = 252,
    TELNET_DO = 253,
    TELNET_DONT = 254,
    TELNET_IAC = 255,
};

static void reader_add(struct ftp_reader *reader, uint8_t byte)
{
    if (reader->size <= FTP_LINE_MAX) // the CR before the end may stand behind a full line
        reader->line[reader->size++] = byte ? (char)byte : '\n';
    else
        reader->too_long = true;
}

static enum ftp_read reader_end(struct ftp_reader *reader)
{
    if (reader->size && reader->line[reader->size - 1] == '\r')
        reader->size--;
    reader->too_long |= reader->size > FTP_LINE_MAX;
    reader->line[reader->size] = '\0';
    reader->ended = true;
    return reader->too_long ? FTP_READ_TOO_LONG : FTP_READ_LINE;
}

static enum ftp_read reader_text(struct ftp_reader *reader, uint8_t byte)
{
    if (byte == TELNET_IAC)
        reader->state = READER_COMMAND;
    else if (byte == '\n')
        return reader_end(reader);
    else
        reader_add(reader, byte);
    return FTP_READ_MORE;
}

// An urgent DM leaves the stream out of band, so that its IAC stands before ordinary text.
static enum ftp_read reader_command(struct ftp_reader *reader, uint8_t byte)
{
    reader->state = READER_TEXT;
    if (byte >= TELNET_WILL && byte <= TELNET_DONT) {
        reader->state = READER_OPTION;
        reader->verb = byte;
    } else if (byte == TELNET_SB) {
        reader->state = READER_SUBNEGOTIATION;
    } else if (byte == TELNET_IAC) {
        reader_add(reader, byte);
    } else if (byte < TELNET_SE) {
        return reader_text(reader, byte);
    }
    return FTP_READ_MORE;
}

// RFC 1123, 4.1.2.12: options are refused. WONT and DONT need no answer, or both ends would go on.
static enum ftp_read reader_option(struct ftp_reader *reader, uint8_t option)
{
    reader->state = READER_TEXT;
    if (reader->verb != TELNET_WILL && reader->verb != TELNET_DO)
        return FTP_READ_MORE;
    reader->refusal[0] = (char)TELNET_IAC;
    reader->refusal[1] = (char)(reader->verb == TELNET_WILL ? TELNET_DONT : TELNET_WONT);
    reader->refusal[2] = (char)option;
    return FTP_READ_NEGOTIATION;
}

static enum ftp_read reader_byte(struct ftp_reader *reader, uint8_t byte)
{
    switch ((enum ftp_reader_state)reader->state) {
    case READER_TEXT:
        return reader_text(reader, byte);
    case READER_COMMAND:
        return reader_command(reader, byte);
    case READER_OPTION:
        return reader_option(reader, byte);
    case READER_SUBNEGOTIATION:
        if (byte == TELNET_IAC)
            reader->state = READER_SUBNEGOTIATION_COMMAND;
        return FTP_READ_MORE;
    case READER_SUBNEGOTIATION_COMMAND:
        reader->state = byte == TELNET_SE ? READER_TEXT : READER_SUBNEGOTIATION;
        return FTP_READ_MORE;
    }
    return FTP_READ_MORE; // UNTESTED: every state returns above
}

enum ftp_read ftp_reader_feed(struct ftp_reader *reader, const char **data, size_t *size)
{
    if (reader->ended) {
        reader->size = 0;
        reader->too_long = false;
        reader->ended = false;
    }
    while (*size) {
        uint8_t byte = (uint8_t) * (*data)++;
        --*size;
        enum ftp_read read = reader_byte(reader, byte);
        if (read != FTP_READ_MORE)
            return read;
    }
    return FTP_READ_MORE;
}

bool ftp_reader_is_idle(const struct ftp_reader *reader)
{
    return (reader->ended || (!reader->size && !reader->too_long)) && reader->state == READER_TEXT;
}

// --- Commands ------------------------------------------------------------------------------------

#define IN FTP_NEEDS_LOGIN
#define ARGUMENT FTP_NEEDS_ARGUMENT
#define NONE FTP_TAKES_NONE

const struct ftp_verb_row ftp_verbs[FTP_VERBS] = {
    [FTP_ABOR] = { "ABOR", "ABOR", 0 },
    [FTP_ACCT] = { "ACCT", NULL, 0 },
    [FTP_ADAT] = { "ADAT", NULL, 0 },
    [FTP_ALLO] = { "ALLO", "ALLO size", IN },
    [FTP_APPE] = { "APPE", "APPE name", IN | ARGUMENT },
    [FTP_AUTH] = { "AUTH", NULL, 0 },
    [FTP_CCC] = { "CCC", NULL, 0 },
    [FTP_CDUP] = { "CDUP", "CDUP", IN | NONE },
    [FTP_CONF] = { "CONF", NULL, 0 },
    [FTP_CWD] = { "CWD", "CWD [directory]", IN },
    [FTP_DELE] = { "DELE", "DELE name", IN | ARGUMENT },
    [FTP_ENC] = { "ENC", NULL, 0 },
    [FTP_EPRT] = { "EPRT", "EPRT |family|address|port|", IN | ARGUMENT },
    [FTP_EPSV] = { "EPSV", "EPSV [family | ALL]", IN },
    [FTP_FEAT] = { "FEAT", "FEAT", 0 },
    [FTP_HELP] = { "HELP", "HELP [command]", 0 },
    [FTP_LIST] = { "LIST", "LIST [-al] [name or pattern]", IN },
    [FTP_MDTM] = { "MDTM", "MDTM name", IN | ARGUMENT },
    [FTP_MFMT] = { "MFMT", "MFMT YYYYMMDDHHMMSS name", IN | ARGUMENT },
    [FTP_MIC] = { "MIC", NULL, 0 },
    [FTP_MKD] = { "MKD", "MKD directory", IN | ARGUMENT },
    [FTP_MLSD] = { "MLSD", "MLSD [directory]", IN },
    [FTP_MLST] = { "MLST", "MLST [name]", IN },
    [FTP_MODE] = { "MODE", "MODE S", IN | ARGUMENT },
    [FTP_NLST] = { "NLST", "NLST [directory or pattern]", IN },
    [FTP_NOOP] = { "NOOP", "NOOP", 0 },
    [FTP_OPTS] = { "OPTS", "OPTS UTF8 ON | OPTS MLST [fact;...]", 0 | ARGUMENT },
    [FTP_PASS] = { "PASS", "PASS password", 0 },
    [FTP_PASV] = { "PASV", "PASV", IN | NONE },
    [FTP_PBSZ] = { "PBSZ", "PBSZ size", 0 },
    [FTP_PORT] = { "PORT", "PORT h1,h2,h3,h4,p1,p2", IN | ARGUMENT },
    [FTP_PROT] = { "PROT", "PROT level", 0 },
    [FTP_PWD] = { "PWD", "PWD", IN | NONE },
    [FTP_QUIT] = { "QUIT", "QUIT", 0 },
    [FTP_REIN] = { "REIN", "REIN", NONE },
    [FTP_REST] = { "REST", "REST offset", IN | ARGUMENT },
    [FTP_RETR] = { "RETR", "RETR name", IN | ARGUMENT },
    [FTP_RMD] = { "RMD", "RMD directory", IN | ARGUMENT },
    [FTP_RNFR] = { "RNFR", "RNFR name", IN | ARGUMENT },
    [FTP_RNTO] = { "RNTO", "RNTO name", IN | ARGUMENT },
    [FTP_SITE] = { "SITE", "SITE HELP | SITE CHMOD mode name", IN | ARGUMENT },
    [FTP_SIZE] = { "SIZE", "SIZE name", IN | ARGUMENT },
    [FTP_SMNT] = { "SMNT", NULL, 0 },
    [FTP_STAT] = { "STAT", "STAT [name]", IN },
    [FTP_STOR] = { "STOR", "STOR name", IN | ARGUMENT },
    [FTP_STOU] = { "STOU", "STOU [prefix]", IN },
    [FTP_STRU] = { "STRU", "STRU F", IN | ARGUMENT },
    [FTP_SYST] = { "SYST", "SYST", 0 },
    [FTP_TYPE] = { "TYPE", "TYPE A | TYPE I", IN | ARGUMENT },
    [FTP_USER] = { "USER", "USER name", ARGUMENT },
};

#undef IN
#undef ARGUMENT
#undef NONE

static const struct {
    const char *name;
    enum ftp_verb verb;
} command_others[] = {
    { "XCWD", FTP_CWD },   { "XCUP", FTP_CDUP },   { "XPWD", FTP_PWD },     { "XMKD", FTP_MKD },
    { "XRMD", FTP_RMD },   { "GET", FTP_HTTP },    { "HEAD", FTP_HTTP },    { "POST", FTP_HTTP },
    { "PUT", FTP_HTTP },   { "DELETE", FTP_HTTP }, { "OPTIONS", FTP_HTTP }, { "CONNECT", FTP_HTTP },
    { "TRACE", FTP_HTTP }, { "PATCH", FTP_HTTP },
};

static enum ftp_verb command_find(const char *name, size_t size)
{
    for (int i = 0; i < FTP_VERBS; i++) {
        if (!strncasecmp(name, ftp_verbs[i].name, size) && !ftp_verbs[i].name[size])
            return (enum ftp_verb)i;
    }
    for (size_t i = 0; i < sizeof command_others / sizeof command_others[0]; i++) {
        if (!strncasecmp(name, command_others[i].name, size) && !command_others[i].name[size])
            return command_others[i].verb;
    }
    return FTP_VERBS;
}

void ftp_command_parse(const char *line, struct ftp_command *ret_command)
{
    enum { VERB_MAX = 7 };
    size_t size = strcspn(line, " ");
    ret_command->verb = size && size <= VERB_MAX ? command_find(line, size) : FTP_VERBS;
    ret_command->argument = line[size] ? line + size + 1 : line + size;
}
