// Addresses and ports as FTP's commands and options write them (RFC 959, RFC 2428). No socket.
#ifndef FTP_ADDRESS_TEXT_H
#define FTP_ADDRESS_TEXT_H

#include <weir.h>

enum { FTP_PORT_MIN = 1024, FTP_HOST_PORT_SIZE = 24 };

// Reads PORT's argument, "127,0,0,1,4,0". False for anything else.
bool ftp_address_read_port(const char *text, struct weir_address *ret_address);

// Reads EPRT's, "|1|132.235.1.2|6275|" with any printable delimiter but a digit. -EINVAL: not of
// that form; -EPROTONOSUPPORT: a family that is neither 1 (IPv4) nor 2 (IPv6).
int ftp_address_read_extended(const char *text, struct weir_address *ret_address);

enum ftp_epsv { FTP_EPSV_OPENS, FTP_EPSV_ALL, FTP_EPSV_OTHER };

// What EPSV's argument means to a client of the family: nothing, or the family's number, opens.
enum ftp_epsv ftp_address_read_epsv(const char *text, sa_family_t family);

// The number that stands for the family in EPRT and EPSV.
char ftp_address_family(sa_family_t family);

// Writes what PASV's reply has between its brackets, and PORT as its argument; zero-terminated.
void ftp_address_write_port(struct in_addr host, uint16_t port, char ret_text[FTP_HOST_PORT_SIZE]);

// Reads a range of ports, "1024-65535": whole numbers, the first from FTP_PORT_MIN on and not above
// the last.
bool ftp_address_read_range(const char *text, uint16_t *ret_first, uint16_t *ret_last);

#endif
