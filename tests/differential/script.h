// Scripts of clients, played on every engine: what a client reads, and the files that are left,
// must be the same bytes wherever they come from.
//
// A script is a table of steps over one control connection at a time and, for FTP, data connections
// beside it. What it says is in the steps, what it is told goes into the transcript. Nothing in a
// step depends on the engine, and only what differs by nature is normalized: dates, ports, numbers
// of inodes and of users.
#ifndef DIFFERENTIAL_SCRIPT_H
#define DIFFERENTIAL_SCRIPT_H

#include "stage.h"

enum step_kind {
    STEP_NONE,       // the script ends
    STEP_OPEN,       // a new connection, which reads `number` bytes at a time (0: all there is)
    STEP_SAY,        // writes the text
    STEP_SEND,       // writes `number` bytes of a pattern
    STEP_WAIT,       // until the text has come, after what was waited for last; `number`: its line
    STEP_PAUSE,      // for `number` milliseconds
    STEP_HALF_CLOSE, // this end
    STEP_RESET,      // this end, and nothing more is read
    STEP_ENDED,      // waits for the server's end
    STEP_PASSIVE,    // opens a data connection to the port that the last reply named
    STEP_ACTIVE,     // listens, and says the text, PORT or EPRT, and where
    STEP_TAKEN,      // waits for the server's connection to it
    STEP_DATA_SEND,  // writes `number` bytes of a pattern and ends
    STEP_DATA_SAY,   // writes the text and ends, if there is no `number`
    STEP_DATA_ENDED, // waits for the end of the data
    STEP_DATA_LINES, // the same, and their order says nothing
    STEP_DATA_CLOSE, // closes it, whatever came
};

struct step {
    enum step_kind kind;
    const char *text;
    uint64_t number;
};

#define STEP(kind, text, number) \
    {                            \
        kind, text, number       \
    }
#define OPEN STEP(STEP_OPEN, NULL, 0)
#define OPEN_SLOWLY(size) STEP(STEP_OPEN, NULL, size)
#define WRITE(text) STEP(STEP_SAY, text, 0)
#define SEND(size) STEP(STEP_SEND, NULL, size)
#define WAIT(text) STEP(STEP_WAIT, text, 0)
#define WAIT_LINE(text) STEP(STEP_WAIT, text, 1)
#define PAUSE(milliseconds) STEP(STEP_PAUSE, NULL, milliseconds)
#define HALF_CLOSE STEP(STEP_HALF_CLOSE, NULL, 0)
#define RESET STEP(STEP_RESET, NULL, 0)
#define ENDED STEP(STEP_ENDED, NULL, 0)
#define PASSIVE STEP(STEP_PASSIVE, NULL, 0)
#define PASSIVE_SLOWLY(size) STEP(STEP_PASSIVE, NULL, size)
#define ACTIVE(verb) STEP(STEP_ACTIVE, verb, 0)
#define TAKEN STEP(STEP_TAKEN, NULL, 0)
#define DATA_SEND(size) STEP(STEP_DATA_SEND, NULL, size)
#define DATA_SAY(text) STEP(STEP_DATA_SAY, text, 0)
#define DATA_PART(text) STEP(STEP_DATA_SAY, text, 1)
#define DATA_ENDED STEP(STEP_DATA_ENDED, NULL, 0)
#define DATA_LINES STEP(STEP_DATA_LINES, NULL, 0)
#define DATA_CLOSE STEP(STEP_DATA_CLOSE, NULL, 0)

struct script {
    const char *name;
    const struct served *served;
    const char *proof; // must be in the transcript, or the script did not do what it is for
    struct step steps[160];
};

// Ended by a row without a name.
extern const struct script http_scripts[], http_framed_scripts[], ftp_scripts[];

// Plays it against the address and appends all that the client was told.
void script_play(const struct script *script, struct world *world,
                 const struct weir_address *address, struct text *transcript);

#endif
