/* utf8.h - texts of others, which may be cut off or no text at all, made fit
 * for what takes only UTF-8: JSON, BSON. Any thread.
 */
#ifndef LEV_UTF8_H
#define LEV_UTF8_H

/* Puts '?' for each byte that is no part of a valid character (RFC 3629). */
void lev_utf8_mend(char *text);

#endif
