/*
 * process.h - what this process takes of the machine.
 */
#ifndef FLOTILLA_COMMON_PROCESS_H
#define FLOTILLA_COMMON_PROCESS_H

#include <stdint.h>

/* Resident bytes; 0 where the system does not say. */
uint64_t process_resident_bytes(void);

#endif
