import { PresenceProvider } from '@pilotlight/client/react';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './app.tsx';
import { openSession } from './session.ts';
import './styles.css';

createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode>
    <PresenceProvider client={openSession()}>
      <App />
    </PresenceProvider>
  </StrictMode>,
);
