// The two components of seed 001, as they were written for another server. They know nothing of tokens: what
// serves the page adds one (serve.mjs).
import { useEffect, useState } from 'react';

export function WhatsAppSession({ sessionId }) {
  const [session, setSession] = useState(null);
  const [qrImage, setQrImage] = useState(null);

  useEffect(() => {
    const fetchStatus = async () => {
      const response = await fetch(`/api/whatsapp/session/status/${sessionId}`);
      const data = await response.json();
      
      if (data.success) {
        setSession(data.data);
        setQrImage(data.data.qrImage);
      }
    };

    // Fetch immediately
    fetchStatus();

    // Poll every 3 seconds for real-time updates
    const interval = setInterval(fetchStatus, 3000);
    return () => clearInterval(interval);
  }, [sessionId]);

  if (!session) return <div>Loading...</div>;

  return (
    <div className="whatsapp-session">
      <h3>Session: {session.sessionId}</h3>
      <div className="status">
        Status: <span className={session.isConnected ? 'connected' : 'disconnected'}>
          {session.status}
        </span>
      </div>
      
      {session.message && (
        <div className="message">{session.message}</div>
      )}
      
      {session.needsQR && qrImage && (
        <div className="qr-code">
          <h4>Scan QR Code:</h4>
          <img src={qrImage} alt="WhatsApp QR Code" />
        </div>
      )}
      
      {session.isLoading && (
        <div className="loading">Loading...</div>
      )}
      
      {session.hasError && (
        <div className="error">Error: {session.message}</div>
      )}
    </div>
  );
}

export function WhatsAppSessionList({ userId }) {
  const [sessions, setSessions] = useState([]);
  const [summary, setSummary] = useState({});

  useEffect(() => {
    const fetchSessions = async () => {
      const url = userId 
        ? `/api/whatsapp/session/list-realtime?userId=${userId}`
        : '/api/whatsapp/session/list-realtime';
      
      const response = await fetch(url);
      const data = await response.json();
      
      if (data.success) {
        setSessions(data.data);
        setSummary(data.summary);
      }
    };

    fetchSessions();
    const interval = setInterval(fetchSessions, 5000);
    return () => clearInterval(interval);
  }, [userId]);

  return (
    <div className="session-list">
      <div className="summary">
        <div>Total: {summary.total}</div>
        <div>Connected: {summary.connected}</div>
        <div>Need QR: {summary.needsQR}</div>
        <div>Errors: {summary.error}</div>
      </div>
      
      <div className="sessions">
        {sessions.map(session => (
          <WhatsAppSession key={session.sessionId} sessionId={session.sessionId} />
        ))}
      </div>
    </div>
  );
}
