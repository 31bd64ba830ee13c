// Commands that set or tell something of the session and touch no file.
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "facts.h"
#include "session.h"

static bool settings_is(const char *argument, const char *word)
{
    size_t size = strlen(word);
    return !strncasecmp(argument, word, size) && !argument[size + strspn(argument + size, " ")];
}

void ftp_set_type(struct ftp_session *session, const char *argument)
{
    if (settings_is(argument, "A") || settings_is(argument, "A N")) {
        session->ascii = true;
        ftp_reply(session, "200 Type is ASCII.");
    } else if (settings_is(argument, "I") || settings_is(argument, "L 8")) {
        session->ascii = false;
        ftp_reply(session, "200 Type is binary.");
    } else {
        ftp_reply(session, "504 Only TYPE A and TYPE I.");
    }
}

void ftp_set_mode(struct ftp_session *session, const char *argument)
{
    ftp_reply(session, settings_is(argument, "S") ? "200 Mode is stream." : "504 Only MODE S.");
}

void ftp_set_structure(struct ftp_session *session, const char *argument)
{
    ftp_reply(session, settings_is(argument, "F") ? "200 Structure is file." : "504 Only STRU F.");
}

// Offsets count bytes of the file, which an ASCII transfer does not send.
void ftp_set_restart(struct ftp_session *session, const char *argument)
{
    size_t digits = strspn(argument, "0123456789");
    if (!digits || digits > 18 || argument[digits]) {
        ftp_reply(session, "501 Syntax: REST offset");
        return;
    }
    uint64_t offset = strtoull(argument, NULL, 10);
    if (offset && session->ascii) {
        ftp_reply(session, "504 REST needs TYPE I.");
        return;
    }
    session->restart = offset;
    ftp_reply_format(session, "350 Restarting at %llu.", (unsigned long long)offset);
}

void ftp_set_options(struct ftp_session *session, const char *argument)
{
    char text[64];
    if (settings_is(argument, "UTF8 ON") || settings_is(argument, "UTF8")) {
        ftp_reply(session, "200 Names are UTF-8, always.");
    } else if (!strncasecmp(argument, "MLST", 4) && (argument[4] == ' ' || !argument[4])) {
        session->facts = (uint8_t)ftp_facts_parse(argument + 4 + strspn(argument + 4, " "));
        ftp_facts_print(session->facts, false, text);
        ftp_reply_format(session, "200 MLST OPTS %s", text);
    } else {
        ftp_reply(session, "501 No such option.");
    }
}

void ftp_say_system(struct ftp_session *session, const char *argument)
{
    (void)argument;
    ftp_reply(session, "215 UNIX Type: L8");
}

void ftp_say_noop(struct ftp_session *session, const char *argument)
{
    (void)argument;
    ftp_reply(session, "200 Yes.");
}

void ftp_say_allocate(struct ftp_session *session, const char *argument)
{
    (void)argument;
    ftp_reply(session, "202 Nothing needs to be allocated.");
}

// RFC 4217: without a security exchange (AUTH) there is nothing to protect.
void ftp_say_protection(struct ftp_session *session, const char *argument)
{
    (void)argument;
    ftp_reply(session, "503 There is no AUTH yet.");
}

void ftp_say_features(struct ftp_session *session, const char *argument)
{
    char facts[80];
    (void)argument;
    ftp_facts_print(session->facts, true, facts);
    ftp_reply(session, "211-Features:\r\n EPRT\r\n EPSV\r\n MDTM\r\n MFMT");
    ftp_reply_format(session, " MLST %s", facts);
    ftp_reply(session, " REST STREAM\r\n SIZE\r\n TVFS\r\n UTF8\r\n211 End");
}

static void settings_help_all(struct ftp_session *session)
{
    char line[80];
    size_t size = 0;
    ftp_reply(session, "214-Commands:");
    for (int i = 0; i < FTP_VERBS; i++) {
        if (ftp_verbs[i].syntax) {
            line[size++] = ' ';
            size += strlen(strcpy(line + size, ftp_verbs[i].name));
        }
        if (size < 60 && i + 1 < FTP_VERBS)
            continue;
        line[size] = '\0';
        ftp_reply(session, line);
        size = 0;
    }
    ftp_reply(session, "214 HELP COMMAND tells more.");
}

void ftp_say_help(struct ftp_session *session, const char *argument)
{
    struct ftp_command command;
    if (!*argument) {
        settings_help_all(session);
        return;
    }
    ftp_command_parse(argument, &command);
    if (command.verb >= FTP_VERBS)
        ftp_reply(session, "502 Unknown command.");
    else if (!ftp_verbs[command.verb].syntax)
        ftp_reply(session, "502 Command not implemented.");
    else
        ftp_reply_format(session, "214 Syntax: %s", ftp_verbs[command.verb].syntax);
}
