/** Why a connection ended: the close codes of gateway/codes.py. A test holds the two lists equal. */

export const CloseCode = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  PROTOCOL_ERROR: 1002,
  BAD_TEXT: 1007,
  TOO_MANY_BAD_MESSAGES: 1008,
  MESSAGE_TOO_BIG: 1009,
  INTERNAL_ERROR: 1011,
  RESTART: 1012,
  PROTOCOL_ABUSED: 4400,
  NOT_AUTHORISED: 4401,
  OVERLOADED: 4503,
  SILENT: 4504,
  TOO_SLOW: 4508,
} as const;
