// The commands of `weir`: each gets its own name as argv[0] and returns the exit status.
#ifndef COMMANDS_H
#define COMMANDS_H

int echo_main(int argc, char **argv);
int ftp_main(int argc, char **argv);
int passwd_main(int argc, char **argv);
int http_main(int argc, char **argv);
int doctor_main(int argc, char **argv);

#endif
