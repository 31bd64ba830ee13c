// Replies: lines on the control connection.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "session.h"

enum { REPLY_MAX = 1024 };

void ftp_reply(struct ftp_session *session, const char *text)
{
    weir_stream_send(session->control, text, strlen(text));
    weir_stream_send(session->control, "\r\n", 2);
}

void ftp_reply_format(struct ftp_session *session, const char *format, ...)
{
    char text[REPLY_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ftp_reply(session, text);
}

void ftp_reply_name(struct ftp_session *session, const char *before, const char *name,
                    const char *after)
{
    char text[2 * FTP_LINE_MAX];
    bool quoted = strchr(before, '"') != NULL;
    weir_stream_send(session->control, before, strlen(before));
    weir_stream_send(session->control, text, ftp_path_encode(name, quoted, text));
    ftp_reply(session, after);
}

size_t ftp_reply_lines(struct ftp_session *session, const char *lines, size_t size)
{
    size_t sent = 0;
    while (size) {
        const char *twice = memchr(lines, 255, size);
        size_t part = twice ? (size_t)(twice - lines) + 1 : size;
        weir_stream_send(session->control, lines, part);
        if (twice)
            weir_stream_send(session->control, twice, 1);
        sent += part + (twice != NULL);
        lines += part;
        size -= part;
    }
    return sent;
}

void ftp_reply_error(struct ftp_session *session, int code, int error)
{
    static const struct {
        int error;
        const char *text;
    } texts[] = {
        { -ENOENT, "No such file or directory." },
        { -ENOTDIR, "Not a directory." },
        { -EISDIR, "It is a directory." },
        { -EEXIST, "It exists already." },
        { -ENOTEMPTY, "The directory is not empty." },
        { -EACCES, "Permission denied." },
        { -EPERM, "Permission denied." },
        { -EROFS, "Read-only file system." },
        { -EXDEV, "The name leads outside." },
        { -ELOOP, "Too many symbolic links." },
        { -ENAMETOOLONG, "The name is too long." },
        { -ENOSPC, "No space left." },
        { -EDQUOT, "The quota is exceeded." },
        { -EBUSY, "It is in use." },
        { -EINVAL, "Not possible for this name." },
        { -EOPNOTSUPP, "Not a plain file." },
    };
    const char *text = "The file system failed.";
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].error == error)
            text = texts[i].text;
    }
    // A shortage here passes: the client may try again.
    if (error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EAGAIN) {
        code = 451;
        text = "Too much at once; try again later.";
    }
    ftp_reply_format(session, "%d %s", code, text);
}
