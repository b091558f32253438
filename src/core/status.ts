export type Status = 'ONLINE' | 'OFFLINE';
export type Cause = 'SET' | 'HEARTBEAT' | 'CONNECT' | 'DISCONNECT' | 'EXPIRED' | 'NODE_LOST';
